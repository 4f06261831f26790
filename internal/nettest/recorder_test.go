package nettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bench is a node, a pod and a recorder, ready to be called.
type bench struct {
	tb   testing.TB
	node *Node
	pod  *NS
	dir  string // the recorder's DIR
	bin  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{tb: t, node: HostNode(t), pod: Namespace(t, "pod-"), dir: t.TempDir(), bin: filepath.Join(Recorder(t), "recorder")}
}

// call builds a call for container c1, eth0, with the steps of its verb.
func (b *bench) call(verb, version, steps string) CNICall {
	conf := fmt.Sprintf(`{"cniVersion":%q,"name":"net","type":"recorder","dir":%q`, version, b.dir)
	if steps != "" {
		conf += fmt.Sprintf(`,"steps":{%q:%s}`, verb, steps)
	}
	return CNICall{
		Bin: b.bin, Command: verb, ContainerID: "c1", Netns: b.pod.Path(), IfName: "eth0",
		Args: "A=b", Path: []string{"/opt/x", "/opt/y"}, Stdin: []byte(conf + "}"),
	}
}

func (b *bench) run(call CNICall) Outcome {
	b.tb.Helper()
	out, err := b.node.CNI(context.Background(), call)
	if err != nil {
		b.tb.Fatal(err)
	}
	return out
}

// want runs a call and compares its error code; 0 is success.
func (b *bench) want(code uint, call CNICall) Outcome {
	b.tb.Helper()
	out := b.run(call)
	if e := out.Error(); code == 0 && e != nil || code != 0 && (e == nil || e.Code != code) {
		b.tb.Fatalf("%s = %s, want code %d", call.Command, out, code)
	}
	return out
}

func TestRecorderKeepsLeases(t *testing.T) {
	b := newBench(t)
	for _, version := range []string{"", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		out := b.want(0, b.call("ADD", version, ""))
		result, err := out.Result()
		if err != nil {
			t.Fatalf("version %q: %v", version, err)
		}
		if got := result.IPs[0].Address.String(); got != "10.99.0.2/24" {
			t.Errorf("version %q: address %s", version, got)
		}
		var printed struct {
			CNIVersion string `json:"cniVersion"`
			Interfaces []struct{ Name, Sandbox string }
		}
		if err = json.Unmarshal(out.Stdout, &printed); err != nil {
			t.Fatal(err)
		}
		if version != "" && printed.CNIVersion != version {
			t.Errorf("version %q printed as %q", version, printed.CNIVersion)
		}
		if version >= "0.3.0" && (len(printed.Interfaces) != 1 || printed.Interfaces[0].Sandbox != b.pod.Path()) {
			t.Errorf("version %q: interfaces %v", version, printed.Interfaces)
		}
		b.want(0, b.call("CHECK", "1.1.0", ""))
		b.want(4, b.call("ADD", version, ""))
		b.want(0, b.call("DEL", version, ""))
		b.want(0, b.call("DEL", version, ""))
		b.want(999, b.call("CHECK", "1.1.0", ""))
	}
	b.want(0, b.call("STATUS", "1.1.0", ""))
	b.want(0, b.call("VERSION", "1.1.0", ""))
}

func TestRecorderParallelLeases(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for i := range 20 {
		wg.Go(func() {
			call := b.call("ADD", "1.0.0", "")
			call.ContainerID = fmt.Sprintf("p%d", i)
			out, err := b.node.CNI(t.Context(), call)
			if err != nil {
				t.Error(err)
				return
			}
			result, err := out.Result()
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[result.IPs[0].Address.String()] = true
		})
	}
	wg.Wait()
	if len(seen) != 20 {
		t.Errorf("20 calls got %d addresses", len(seen))
	}
	calls, err := Calls(b.dir)
	if err != nil || len(calls) != 20 {
		t.Errorf("Calls = %d calls, %v", len(calls), err)
	}
	// GC keeps what is valid.
	gc := b.call("GC", "1.1.0", "")
	gc.ContainerID, gc.Netns, gc.IfName = "", "", ""
	gc.Stdin = fmt.Appendf(nil, `{"cniVersion":"1.1.0","name":"net","type":"recorder","dir":%q,
		"cni.dev/valid-attachments":[{"containerID":"p7","ifname":"eth0"}]}`, b.dir)
	b.want(0, gc)
	left, err := filepath.Glob(b.dir + "/leases/net/*")
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "p7-eth0" {
		t.Errorf("GC left %v, %v", left, err)
	}
}

func TestRecorderRecords(t *testing.T) {
	b := newBench(t)
	t.Setenv("CNI_FROM_OUTSIDE", "1")
	if calls, err := Calls(b.dir); err != nil || len(calls) != 0 {
		t.Errorf("before the first call: %v, %v", calls, err)
	}
	call := b.call("DEL", "1.0.0", `[{"error":{"code":110,"msg":"m","details":"d"}}]`)
	call.Netns, call.Env = "", []string{"CNI_NETNS=", "RECORDER_X=y"}
	out := b.want(110, call)
	if e := out.Error(); e.Msg != "m" || e.Details != "d" || e.CNIVersion != "1.0.0" || out.ExitCode != 1 {
		t.Errorf("error %v, exit %d", e, out.ExitCode)
	}
	calls, err := Calls(b.dir)
	if err != nil || len(calls) != 1 {
		t.Fatalf("Calls = %v, %v", calls, err)
	}
	got := calls[0]
	if got.Verb != "DEL" || got.ContainerID != "c1" || got.IfName != "eth0" || got.Netns != "" || got.Args != "A=b" ||
		got.Path != "/opt/x:/opt/y" || got.Name != "net" || got.Type != "recorder" || got.Pid == 0 || got.Stdin != string(call.Stdin) {
		t.Errorf("recorded %+v", got)
	}
	netns, present := got.Env["CNI_NETNS"]
	if !present || netns != "" || got.Env["RECORDER_X"] != "y" {
		t.Errorf("environment %v", got.Env)
	}
	if _, leaked := got.Env["CNI_FROM_OUTSIDE"]; leaked {
		t.Error("a variable of the test reached the plugin")
	}
}

func TestRecorderAnswers(t *testing.T) {
	b := newBench(t)
	out := b.run(b.call("ADD", "1.0.0", `[{"stderr":"warn"},{"stdout":"not JSON"},{"exit":3}]`))
	if string(out.Stdout) != "not JSON" || string(out.Stderr) != "warn" || out.ExitCode != 3 {
		t.Errorf("outcome %s", out)
	}
	if e := out.Error(); e == nil || e.Code != 0 || !strings.Contains(e.String(), "not JSON") {
		t.Errorf("error of a plugin that printed none: %v", e)
	}
	out = b.run(b.call("ADD", "1.0.0", `[{"result":{"cniVersion":"1.0.0",  "x":1}}]`))
	if string(out.Stdout) != `{"cniVersion":"1.0.0",  "x":1}` {
		t.Errorf("result printed as %s", out.Stdout)
	}
	out = b.run(b.call("DEL", "1.0.0", `[{"signal":9}]`))
	if out.Signal != syscall.SIGKILL || out.ExitCode != -1 {
		t.Errorf("outcome %s", out)
	}
	b.want(11, b.call("DEL", "1.0.0", `[{"failOnce":{"code":11,"msg":"later"}}]`))
	b.want(0, b.call("DEL", "1.0.0", `[{"failOnce":{"code":11,"msg":"later"}}]`))
	b.want(7, b.call("DEL", "1.0.0", `[{"slep":"1s"}]`))
	b.want(7, b.call("DEL", "1.0.0", `[{"free":true,"unlink":true}]`))
	// Steps alone do not give an address, and the result says so.
	if result, err := b.want(0, b.call("ADD", "1.0.0", `[{"touch":"mark"}]`)).Result(); err != nil || len(result.IPs) != 0 {
		t.Errorf("result %v, %v", result, err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "mark")); err != nil {
		t.Error(err)
	}
}

func TestRecorderPassesPrevResultOn(t *testing.T) {
	b := newBench(t)
	call := b.call("ADD", "1.0.0", "")
	call.Stdin = fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"net","type":"recorder","dir":%q,
		"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.9/16"}]}}`, b.dir)
	result, err := b.want(0, call).Result()
	if err != nil || len(result.IPs) != 1 || result.IPs[0].Address.String() != "10.7.0.9/16" {
		t.Errorf("result %v, %v", result, err)
	}
}

func TestRecorderLinks(t *testing.T) {
	b := newBench(t)
	add := b.call("ADD", "1.0.0", `[{"allocate":true},{"link":true}]`)
	result, err := b.want(0, add).Result()
	if err != nil {
		t.Fatal(err)
	}
	if result.Interfaces[0].Mac == "" {
		t.Error("the result has no MAC")
	}
	if got := linkNames(t, b.pod); len(got) != 2 {
		t.Errorf("pod has links %v", got)
	}
	b.want(0, b.call("CHECK", "1.0.0", `[{"checkLink":true}]`))
	b.want(4, b.call("ADD", "1.0.0", `[{"link":true}]`))
	del := b.call("DEL", "1.0.0", "")
	del.Netns = ""
	b.want(0, del)
	b.want(999, b.call("CHECK", "1.0.0", `[{"checkLink":true}]`))
	if got := linkNames(t, b.node.NS); len(got) != 1 {
		t.Errorf("node has links %v after DEL", got)
	}
}

func TestRecorderWaitsAndIgnores(t *testing.T) {
	b := newBench(t)
	process, err := b.node.StartCNI(t.Context(), b.call("DEL", "1.0.0", `[{"ignoreTerm":true},{"touch":"ready"},{"waitFor":"go"}]`))
	if err != nil {
		t.Fatal(err)
	}
	waitForFile(t, filepath.Join(b.dir, "ready"))
	if err = process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-process.Done():
		t.Fatal("the recorder did not ignore SIGTERM, or did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	if err = os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := process.Wait()
	if err != nil || out.ExitCode != 0 {
		t.Errorf("outcome %s, %v", out, err)
	}
	if err = process.Kill(); err != nil {
		t.Errorf("Kill after the end: %v", err)
	}
}

func TestKilledByContext(t *testing.T) {
	b := newBench(t)
	ctx := &deadline{t.Context(), make(chan struct{})}
	go func() {
		defer close(ctx.passed)
		waitForFile(t, filepath.Join(b.dir, "ready"))
	}()
	out, err := b.node.CNI(ctx, b.call("ADD", "1.0.0", `[{"touch":"ready"},{"sleep":"1m"}]`))
	if !errors.Is(err, context.DeadlineExceeded) || out.Signal != syscall.SIGKILL {
		t.Errorf("outcome %s, %v", out, err)
	}
}

// A child that a plugin leaves behind outlives it, is seen, and does not hang
// the caller although it holds the plugin's output.
func TestRecorderLeavesChild(t *testing.T) {
	b := newBench(t)
	snapshot := func() string {
		return RequireSnapshot(t, SnapshotOptions{Namespaces: map[string]string{"node": b.node.Path()}})
	}
	before := snapshot()
	t.Cleanup(b.endChildren)
	for _, step := range []string{"fork", "forkGroup"} {
		out := b.want(0, b.call("ADD", "1.0.0", fmt.Sprintf(`[{%q:"10m"}]`, step)))
		if !out.OutputHeld {
			t.Errorf("%s: nobody holds the output", step)
		}
	}
	during := snapshot()
	if got := strings.Count(during, `process recorder (argv0 "recorder-child"): in namespace node`); got != 2 {
		t.Errorf("snapshot shows %d children:\n%s", got, during)
	}
	b.endChildren()
	for start := time.Now(); snapshot() != before && time.Since(start) < time.Minute; {
		time.Sleep(100 * time.Millisecond)
	}
	RequireSame(t, before, snapshot())
}

// endChildren kills what plugins left behind in the node.
func (b *bench) endChildren() {
	b.tb.Helper()
	left, err := exec.Command("ip", "netns", "pids", b.node.Name()).Output()
	if err != nil {
		b.tb.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(left)) {
		pid, parseErr := strconv.Atoi(field)
		if parseErr != nil {
			b.tb.Fatal(parseErr)
		}
		if killErr := syscall.Kill(pid, syscall.SIGKILL); killErr != nil && !errors.Is(killErr, syscall.ESRCH) {
			b.tb.Error(killErr)
		}
	}
}

// deadline is a context whose deadline passes when the test says so: no clock
// knows when a plugin has started.
type deadline struct {
	context.Context
	passed chan struct{}
}

func (d *deadline) Done() <-chan struct{} { return d.passed }

func (d *deadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func waitForFile(tb testing.TB, path string) {
	tb.Helper()
	for range 3000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Errorf("%s did not appear", path)
}
