package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// port is where `inside serve` answers.
const port = 8080

// answer is what `inside serve` says: who answers, which of its addresses was
// asked, and which address asked.
type answer struct{ pod, local, remote string }

// How long an answer is waited for: one that must come, and one that is asked
// for again.
const (
	onceWait  = time.Minute
	retryWait = 5 * time.Second
)

// ask asks a server from the network of this thread.
func ask(network, address string, at int, wait time.Duration) (answer, error) {
	conn, err := net.DialTimeout(network, net.JoinHostPort(address, strconv.Itoa(at)), wait)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	if err = conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return answer{}, err
	}
	if network == "udp" {
		if _, err = conn.Write([]byte("who?")); err != nil {
			return answer{}, err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", network, address, err)
	}
	words := strings.Fields(line)
	if len(words) != 3 {
		return answer{}, fmt.Errorf("%s %s said %q", network, address, line)
	}
	return answer{words[0], words[1], words[2]}, nil
}

// where runs f in the network of a pod, of a node or of the world outside.
type where func(f func() error) error

// asks asks a server there.
func (w where) asks(network, address string, at int) (answer, error) {
	var got answer
	err := w(func() error {
		var err error
		got, err = ask(network, address, at, onceWait)
		return err
	})
	return got, err
}

// expects expects one answer.
func (s *scenario) expects(from where, network, address string, at int, want answer) {
	s.Helper()
	if got, err := from.asks(network, address, at); err != nil || got != want {
		s.Errorf("%s %s: %+v, %v, want %+v", network, address, got, err, want)
	}
}

// reaches expects one answer of both TCP and UDP.
func (s *scenario) reaches(from where, address string, want answer) {
	s.Helper()
	for _, network := range []string{"tcp", "udp"} {
		s.expects(from, network, address, port, want)
	}
}

// servedBy asks a Service until each of the pods has answered, and returns
// which addresses asked, as the pods see it. Once somebody has answered,
// nothing may fail any more.
func (s *scenario) servedBy(from where, network, address string, at int, pods ...live) []string {
	s.Helper()
	missing := map[string]bool{}
	for _, pod := range pods {
		missing[pod.Name] = true
	}
	var askers []string
	within := retryWait
	err := from(func() error {
		return kubetest.Poll(patience, func() (bool, error) {
			got, err := ask(network, address, at, within)
			if err != nil {
				return len(askers) > 0, err
			}
			within = onceWait
			delete(missing, got.pod)
			if !slices.Contains(askers, got.remote) {
				askers = append(askers, got.remote)
			}
			if len(missing) > 0 {
				return false, fmt.Errorf("these have not answered: %v", slices.Collect(maps.Keys(missing)))
			}
			return true, nil
		})
	})
	if err != nil {
		s.Errorf("%s %s: %v", network, address, err)
	}
	return askers
}

// many is how many packets tell a NIC that carries something from one that has
// a probe to answer.
const many = 200

// carries asks a server so often from the pod, and expects that the NIC, and
// no other one, has carried it, and that the server saw the NIC's address.
func (s *scenario) carries(l live, nic, network, address string, at int) {
	s.Helper()
	var before, after map[string]uint64
	err := l.do(func() error {
		var err error
		if before, err = sent(); err != nil {
			return err
		}
		for range many {
			got, askErr := ask(network, address, at, onceWait)
			if askErr != nil {
				return askErr
			}
			if !slices.Contains(l.addresses(nic), got.remote) {
				return fmt.Errorf("%s was asked by %s, want one of %v", address, got.remote, l.addresses(nic))
			}
		}
		after, err = sent()
		return err
	})
	if err != nil {
		s.Errorf("%s by %s to %s: %v", l.Name, nic, address, err)
		return
	}
	for name := range after {
		count := after[name] - before[name]
		if (count >= many) != (name == nic) {
			s.Errorf("%s of %s sent %d packets, while %d went to %s, which should be by %s", name, l.Name, count, many, address, nic)
		}
	}
}

// sent are the packets that each NIC of this thread's namespace has sent.
func sent() (map[string]uint64, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	counts := map[string]uint64{}
	for _, link := range links {
		if name := link.Attrs().Name; name != "lo" {
			counts[name] = link.Attrs().Statistics.TxPackets
		}
	}
	return counts, nil
}
