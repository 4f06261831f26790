package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is no file is neither waited for nor passed over in silence, whoever
// made it, and whether or not somebody has it open to write.
func TestStrangeFilesOfTheStateDirectory(t *testing.T) {
	for file, check := range map[string]string{
		"pools.json": "VFs", "devices.json": "VFs", "vf/0000:01:10.0.json": "VFs", "cluster.json": "state", "journal/c1": "journals",
	} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b := newBed(t)
			card(b)
			path := b.at(stateDir + "/" + file)
			b.must(os.MkdirAll(filepath.Dir(path), 0o700))
			b.must(unix.Mkfifo(path, 0o600))
			silent, err := os.OpenFile(path, os.O_RDWR, 0)
			b.must(err)
			defer silent.Close()
			looked := make(chan *Report, 1)
			go func() { looked <- b.Look(t.Context()) }()
			select {
			case report := <-looked:
				for _, row := range report.Rows {
					if row.Check == check && strings.Contains(row.What, filepath.Base(file)) && (row.State == Warn || row.State == Fail) {
						return
					}
				}
				t.Errorf("%s says nothing of it: %+v", check, report.Rows)
			case <-time.After(30 * time.Second):
				t.Error("doctor waits for a FIFO")
			}
		})
	}
}
