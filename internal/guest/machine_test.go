package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine that does not come as far as its hand is tried twice, says what its
// console says, and leaves nothing.
func TestStartInVain(t *testing.T) {
	for name, c := range map[string]struct {
		qemu, want string
		boots      int
	}{
		"QEMU ends":        {"exit 7", "QEMU ended", 2},
		"nothing answers":  {"exec sleep 100", "deadline exceeded", 2},
		"the kernel fails": {`for a; do case $a in file:*) echo "Kernel panic" >"${a#file:}" ;; esac; done; exec sleep 100`, "Kernel panic", 2},
		"the hand fails":   {`for a; do case $a in file:*) echo "guest: ready" >"${a#file:}" ;; esac; done; exec sleep 100`, "deadline exceeded", 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
			boots := filepath.Join(dir, "boots")
			must(os.WriteFile(filepath.Join(dir, "qemu"), []byte("#!/bin/sh\necho >>"+boots+"\n"+c.qemu+"\n"), 0o755))
			var said strings.Builder
			// By then the script has said what it is to say, on a busy machine too.
			timeout := 6 * time.Second
			if c.want == "QEMU ended" { // nobody waits for it
				timeout = time.Minute
			}
			o := Options{Dir: dir, Command: []string{"hand"}, Stdout: &said, Stderr: &said, Timeout: timeout}
			if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error lacks %q: %v", c.want, err)
			}
			if lines, err := os.ReadFile(boots); err != nil || len(lines) != c.boots {
				t.Errorf("%d boots, want %d, %v", len(lines), c.boots, err)
			}
			if repeated := strings.Contains(said.String(), "is repeated"); repeated != (c.boots == 2) {
				t.Errorf("said %q", said.String())
			}
			if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
		})
	}
}

// Guests of one host have nothing in common that must differ.
func TestNumbersTellGuestsApart(t *testing.T) {
	seen := map[string]int{}
	for number := range 2 {
		o := Options{Number: number, Host: true, Share: "/share"}
		for _, arg := range append(o.arguments("/console"), o.Address(), o.HostAddress()) {
			for _, part := range strings.Split(arg, ",") {
				if strings.HasPrefix(part, "mac=") || strings.HasPrefix(part, "net=10.") || part == o.Address() {
					seen[part]++
				}
			}
		}
	}
	if len(seen) != 2*5 {
		t.Errorf("want three MACs, a network and an address of each guest: %v", seen)
	}
}
