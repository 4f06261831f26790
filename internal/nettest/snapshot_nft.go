package nettest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// ruleset lists the nftables rules without counters and handles. Each line
// repeats its table and chain, so that a difference explains itself. The order
// within a table stays: it is what the rules mean.
func (v *netView) ruleset() ([]string, error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil, fmt.Errorf("find nft: %w (install it: apt-get install nftables)", err)
	}
	cmd := exec.Command(nft, "-s", "list", "ruleset")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err = inNetns(v.path, cmd.Start); err != nil {
		return nil, fmt.Errorf("start nft: %w", err)
	}
	if err = cmd.Wait(); err != nil {
		return nil, fmt.Errorf("list nftables rules: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	tables, err := splitTables(v.label+" nft", stdout.String())
	if err != nil {
		return nil, err
	}
	// The order of tables is only the order in which they were made.
	slices.SortFunc(tables, slices.Compare)
	return slices.Concat(tables...), nil
}

// splitTables gives each line the names of the blocks that it stands in.
func splitTables(prefix, ruleset string) ([][]string, error) {
	var tables [][]string
	var blocks []string
	for line := range strings.Lines(ruleset) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"):
			continue
		case line == "}":
			if len(blocks) == 0 {
				return nil, errors.New("nft printed a block's end without its beginning")
			}
			blocks = blocks[:len(blocks)-1]
			continue
		}
		if len(blocks) == 0 {
			tables = append(tables, nil)
		}
		if name, opens := strings.CutSuffix(line, " {"); opens {
			blocks = append(blocks, name)
			line = ""
		}
		last := &tables[len(tables)-1]
		*last = append(*last, strings.TrimRight(fmt.Sprintf("%s [%s] %s", prefix, strings.Join(blocks, "] ["), line), " "))
	}
	return tables, nil
}
