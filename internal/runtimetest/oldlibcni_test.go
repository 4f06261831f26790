package runtimetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
)

// buildOldLibcni builds the program of the folder of that name.
func buildOldLibcni(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oldlibcni")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = "oldlibcni"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build oldlibcni: %v\n%s", err, out)
	}
	return path
}

// old calls a verb through libcni v1.1.2. The error is what it said.
func (s *site) old(program, verb string, pod Pod) (types.Result, error) {
	s.Helper()
	rt, err := json.Marshal(object{
		"ContainerID": pod.ID, "NetNS": pod.Netns, "IfName": "eth0",
		"Args": [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name}, {"K8S_POD_UID", pod.UID}},
		"CapabilityArgs": object{
			podAnnotations: pod.Annotations, "portMappings": []object{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(program, verb, s.path("net.d", "00-multiplexer.conflist"), s.path("varlib", "cni"))
	cmd.Env = append(os.Environ(), "CNI_PATH="+s.path("bin"))
	cmd.Stdin = bytes.NewReader(rt)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err = s.node.Run(cmd); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	if verb != "add" {
		return nil, nil
	}
	result, err := create.CreateFromBytes(stdout.Bytes())
	if err != nil {
		s.Fatalf("result %s: %v", stdout.Bytes(), err)
	}
	return result, nil
}

func TestOldLibcni(t *testing.T) {
	t.Parallel()
	program := buildOldLibcni(t)
	for version, wanted := range map[string][]string{
		"1.0.0": {"10.244.7.2", "192.168.50.2", "192.168.60.2"}, // with cniVersions, which it ignores
		"0.4.0": {"10.244.7.2", "192.168.50.2", "192.168.60.2"},
		"0.3.1": {"10.244.7.2", "192.168.50.2", "192.168.60.2"},
		"0.3.0": {"10.244.7.2", "192.168.50.2", "192.168.60.2"},
		"0.2.0": {"10.244.7.2"}, // one address of each family is all it can say
		"0.1.0": {"10.244.7.2"},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.multiplexer(func(list, _ object) {
				if version != "1.0.0" {
					list["cniVersion"] = version
					delete(list, "cniVersions")
				}
			})
			pod, ns := s.newPod("web", "storage", "telemetry")
			result, err := s.old(program, "add", pod)
			if err != nil {
				t.Fatalf("ADD: %v", err)
			}
			if result.Version() != version {
				t.Errorf("result: got version %s, want %s", result.Version(), version)
			}
			want(t, "addresses in the result", addresses(t, result), wanted)
			want(t, "interfaces in the pod", s.interfaces(ns), []string{"eth0", "net1", "net2"})
			_, err = s.old(program, "check", pod)
			switch knows := version == "1.0.0" || version == "0.4.0"; {
			case knows && err != nil:
				t.Errorf("CHECK: %v", err)
			case !knows && (err == nil || !strings.Contains(err.Error(), "does not support the CHECK command")):
				t.Errorf("CHECK: got %v, want libcni's refusal", err)
			}
			for i := range 2 {
				if _, err = s.old(program, "del", pod); err != nil {
					t.Errorf("DEL, call %d: %v", i+1, err)
				}
			}
			want(t, "interfaces after DEL", s.interfaces(ns), nil)
			want(t, "leases after DEL", s.leases(pod), nil)
			want(t, "files in stateDir", s.journals(), nil)
		})
	}
}

// A dual-stack cluster network fits into 0.2.0 whole.
func TestOldLibcniDualStack(t *testing.T) {
	t.Parallel()
	program := buildOldLibcni(t)
	s := newSite(t)
	s.cluster("1.0.0", s.bridge("cluster0", "10.244.7.0/24", "fd00:10:244:7::/64"))
	s.network("1.0.0", "six", s.secondary("six0", "fd00:50::/64"))
	s.multiplexer(func(list, _ object) {
		list["cniVersion"] = "0.2.0"
		delete(list, "cniVersions")
	})
	pod, _ := s.newPod("web", "six", "storage")
	result, err := s.old(program, "add", pod)
	if err != nil {
		t.Fatalf("ADD: %v", err)
	}
	want(t, "addresses in the result", addresses(t, result), []string{"10.244.7.2", "fd00:10:244:7::2"})
	if _, err = s.old(program, "del", pod); err != nil {
		t.Errorf("DEL: %v", err)
	}
	want(t, "leases after DEL", s.leases(pod), nil)
}

// What CHECK is for: libcni hands the ADD's result back, at its own version.
func TestOldLibcniCheckSeesDamage(t *testing.T) {
	t.Parallel()
	program := buildOldLibcni(t)
	s := newSite(t)
	pod, ns := s.newPod("web", "storage", "telemetry")
	if _, err := s.old(program, "add", pod); err != nil {
		t.Fatalf("ADD: %v", err)
	}
	handle, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	link, err := handle.LinkByName("net1")
	if err != nil {
		t.Fatal(err)
	}
	if err = handle.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	addresses, err := handle.AddrList(link, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if err = handle.AddrDel(link, &a); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = s.old(program, "check", pod); err == nil || !strings.Contains(err.Error(), "net1") {
		t.Errorf("CHECK without net1's address: %v", err)
	}
	if _, err = s.old(program, "del", pod); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if _, err = s.old(program, "check", pod); err == nil {
		t.Error("CHECK after DEL succeeded")
	}
}

// addresses returns the result's addresses in order, as the version has them.
func addresses(t *testing.T, result types.Result) []string {
	t.Helper()
	raw, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	type one struct {
		Address string `json:"address"`
		IP      string `json:"ip"`
	}
	var r struct {
		IPs []one `json:"ips"`
		IP4 *one  `json:"ip4"`
		IP6 *one  `json:"ip6"`
	}
	if err = json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	for _, old := range []*one{r.IP4, r.IP6} {
		if old != nil {
			r.IPs = append(r.IPs, one{Address: old.IP})
		}
	}
	var out []string
	for _, ip := range r.IPs {
		address, _, _ := strings.Cut(ip.Address, "/")
		out = append(out, address)
	}
	return out
}
