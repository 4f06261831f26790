package deviceplugin

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Two agents write one file at once, in an upgrade: it is whole at any time,
// and neither takes away what the other one writes.
func TestSharedFileOfTwoAgents(t *testing.T) {
	top := t.TempDir()
	const resource = "example.com/vf"
	name := cdiFile(resource)
	texts := []string{"short", strings.Repeat("long", 10_000)}
	var writing sync.WaitGroup
	failed := make([]error, 2)
	for agent := range failed {
		writing.Go(func() {
			for i := range 300 {
				dir, err := openShared(top, "")
				if err == nil {
					err = errors.Join(dir.write(name, []byte(texts[(agent+i)%2])), dropSpecs(dir, map[string][]*item{resource: nil}), dir.Close())
				}
				failed[agent] = errors.Join(failed[agent], err)
			}
		})
	}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	dir, err := openShared(top, "")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for open := true; open; {
		select {
		case <-written:
			open = false
		default:
		}
		if raw, readErr := dir.read(name); readErr != nil || raw != nil && !slices.Contains(texts, string(raw)) {
			t.Errorf("%d bytes, %v", len(raw), readErr)
			break
		}
	}
	writing.Wait()
	if err = errors.Join(failed...); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(top)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

// What an agent that was killed left half written goes; what may be another
// agent's work, or is another program's, stays.
func TestHalfWrittenFiles(t *testing.T) {
	top := t.TempDir()
	then := time.Now().Add(-2 * youngest)
	old, fresh, foreign := tempPrefix+"old"+tempExt, tempPrefix+"fresh"+tempExt, "other"+tempExt
	for _, name := range []string{old, fresh, foreign} {
		path := filepath.Join(top, name)
		err := os.WriteFile(path, nil, 0o600)
		if err == nil && name != fresh {
			err = os.Chtimes(path, then, then)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := openShared(top, "")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	entries, err := os.ReadDir(top)
	if err != nil || len(entries) != 2 || entries[0].Name() != fresh || entries[1].Name() != foreign {
		t.Errorf("%v, %v", entries, err)
	}
}
