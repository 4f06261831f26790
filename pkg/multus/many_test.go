package multus

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// worked is how long this process has had a processor: however busy the machine
// is, the same work is about as much.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A node that ran Multus for years keeps the records of thousands of
// containers that are gone: to read them all is no work for each of the others.
func TestReadManyRecords(t *testing.T) {
	const containers = 2000
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "results"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := base64.StdEncoding.EncodeToString([]byte(`{"cniVersion":"1.0.0","name":"net-a","type":"bridge"}`))
	for i := range containers {
		id := fmt.Sprintf("%064x", i)
		if i == 0 {
			id = "c-1" // no runtime's, but CNI allows it
		}
		write(id, fmt.Sprintf(`[{"Bytes":%q}]`, conf))
		write("results/net-a-"+id+"-eth0", fmt.Sprintf(`{"kind":"cniCacheV1","containerId":%q,"ifName":"eth0","networkName":"net-a","netns":"/run/netns/x","config":%q,"result":{}}`, id, conf))
	}
	all, err := Containers(dir)
	if err != nil || len(all) != containers {
		t.Fatal(err, len(all))
	}
	// How much work it is, on this machine, to read all files and no more.
	start := worked(t)
	for _, id := range all {
		for _, name := range []string{id, "results/net-a-" + id + "-eth0"} {
			if _, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	plain := worked(t) - start
	start = worked(t)
	r := NewReader(dir)
	for _, id := range all {
		record, readErr := r.Read(id, Call{})
		if readErr != nil || record == nil || len(record.Problems) > 0 || len(record.Attachments) != 1 || record.Attachments[0].Result == nil || len(record.Files) != 2 {
			t.Fatalf("%s: %v %+v", id, readErr, record)
		}
	}
	if took := worked(t) - start; took > 40*plain { // 2 times, and 5 with -race; to list the directory for each, 150
		t.Errorf("%d containers took %s of work, their files alone %s", containers, took, plain)
	}
	// One whose record went since the names were listed is no problem: its DEL was faster.
	if err = os.Remove(filepath.Join(dir, "results/net-a-c-1-eth0")); err != nil {
		t.Fatal(err)
	}
	if record, readErr := r.Read("c-1", Call{}); readErr != nil || len(record.Problems) > 0 || record.Attachments[0].Result != nil {
		t.Errorf("%v %+v", readErr, record)
	}
}
