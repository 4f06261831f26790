package kubelet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Both formats, as kubelets wrote them.
const (
	newFormat = `{"Data":{"PodDeviceEntries":[
 {"PodUID":"other","ContainerName":"a","ResourceName":"x/vf","DeviceIDs":{"0":["0000:01:00.7"]},"AllocResp":"AA=="},
 {"PodUID":"u","ContainerName":"b","ResourceName":"x/vf","DeviceIDs":{"1":["0000:02:00.1"],"0":["10000:01:00.0","0000:01:00.1"]},"AllocResp":"AA=="},
 {"PodUID":"u","ContainerName":"a","ResourceName":"x/vf","DeviceIDs":{"-1":["0000:01:00.2"]},"AllocResp":"AA=="},
 {"PodUID":"u","ContainerName":"a-init","ResourceName":"x/vf","DeviceIDs":{"-1":["0000:01:00.2"]},"AllocResp":null}],
 "RegisteredDevices":{"x/vf":["0000:01:00.1"]}},"Checksum":3356784531,"BootID":"6f3f4a5c"}`
	oldFormat = `{"Data":{"PodDeviceEntries":[
 {"PodUID":"u","ContainerName":"a","ResourceName":"x/vf","DeviceIDs":["0000:01:00.2"],"AllocResp":"AA=="},
 {"PodUID":"u","ContainerName":"b","ResourceName":"x/vf","DeviceIDs":["0000:02:00.1","10000:01:00.0","0000:01:00.1"],"AllocResp":"AA=="}],
 "RegisteredDevices":null},"Checksum":1}`
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubelet_internal_checkpoint")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckpoint(t *testing.T) {
	want := []Device{
		{"a", "x/vf", "0000:01:00.2"},
		{"b", "x/vf", "0000:01:00.1"}, {"b", "x/vf", "0000:02:00.1"}, {"b", "x/vf", "10000:01:00.0"},
	}
	for name, text := range map[string]string{"new": newFormat, "old": oldFormat} {
		t.Run(name, func(t *testing.T) {
			r, log := client(t, filepath.Join(shortDir(t), "none.sock"))
			r.Checkpoint = write(t, text)
			for range 5 {
				got, err := r.Devices(within(t, patience), "shop", "web", "u")
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Fatalf("%v\n%s", err, diff)
				}
			}
			if n := strings.Count(log.String(), "private checkpoint"); n != 1 || !strings.Contains(log.String(), r.Checkpoint) || !strings.Contains(log.String(), "does not exist") {
				t.Errorf("%d warnings: %s", n, log)
			}
			got, err := r.Devices(within(t, patience), "shop", "web", "no devices")
			if err != nil || len(got) > 0 {
				t.Errorf("a pod without devices: %v, %v", got, err)
			}
		})
	}
}

// The file is not the truth while kubelet answers.
func TestCheckpointIsNotReadWhenKubeletAnswers(t *testing.T) {
	k, r, log := start(t)
	r.Checkpoint = write(t, newFormat)
	k.SetPod("shop", "web", one("c", "x/vf", "0000:05:00.1"))
	got, err := r.Devices(within(t, patience), "shop", "web", "u")
	if err != nil || len(got) != 1 || got[0].ID != "0000:05:00.1" || log.Len() > 0 {
		t.Errorf("%v, %v, logged %q", got, err, log)
	}
	k.SetPod("shop", "web")
	if got, err = r.Devices(within(t, patience), "shop", "web", "u"); err != nil || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
}

// A kubelet that hangs leaves time to read the file, with a deadline or none.
func TestPatienceBeforeCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Resources{}
		for limit, want := range map[time.Duration]time.Duration{
			400 * time.Millisecond: 200 * time.Millisecond, 1500 * time.Millisecond: 750 * time.Millisecond, time.Minute: time.Second,
		} {
			if got := r.beforeCheckpoint(within(t, limit)); got != want {
				t.Errorf("of %s kubelet has %s, want %s", limit, got, want)
			}
		}
		if got := r.beforeCheckpoint(t.Context()); got != time.Second {
			t.Errorf("without a deadline kubelet has %s", got)
		}
	})
}

func TestCheckpointWhenKubeletHangs(t *testing.T) {
	k, r, _ := start(t)
	r.Checkpoint, r.most = write(t, newFormat), 0
	k.Freeze()
	if got, err := r.Devices(within(t, 400*time.Millisecond), "shop", "web", "u"); err != nil || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.Devices(t.Context(), "shop", "web", "u"); err != nil || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestBadCheckpoints(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(write(t, newFormat), link); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := write(t, newFormat)
	if err := os.Truncate(large, maxCheckpoint+1); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ path, want string }{
		"absent":    {filepath.Join(t.TempDir(), "none"), "no such file"},
		"link":      {link, "symbolic link"},
		"pipe":      {pipe, "no regular file"},
		"directory": {t.TempDir(), "no regular file"},
		"large":     {large, "more than 16777216 bytes"},
		"torn":      {write(t, newFormat[:100]), "format"},
		"devices":   {write(t, `{"Data":{"PodDeviceEntries":[{"DeviceIDs":7}]}}`), "format"},
		"another":   {write(t, `{"policyName":"none","checksum":1}`), "has no Data"},
	} {
		t.Run(name, func(t *testing.T) {
			r, log := client(t, filepath.Join(shortDir(t), "none.sock"))
			r.Checkpoint = test.path
			wantError(t, r, patience, "does not exist", test.path, test.want)
			if log.Len() > 0 {
				t.Errorf("logged and returned: %s", log)
			}
		})
	}
	r, _ := client(t, filepath.Join(shortDir(t), "none.sock"))
	r.Checkpoint = write(t, newFormat)
	if _, err := r.Devices(t.Context(), "shop", "web", ""); !errors.Is(err, network.Again) || !strings.Contains(err.Error(), "UID") {
		t.Errorf("no UID: %v", err)
	}
}
