package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// checkAgent asks the agent as the plugin does, and its HTTP server for its
// version and for what it waits for.
func (s *sight) checkAgent(ctx context.Context) []Finding {
	if s.config.AgentSocket == "" {
		return []Finding{na("agentSocket is \"\": networks come from %s alone", s.config.ConfDir)}
	}
	socket := s.at(s.config.AgentSocket)
	if info, err := os.Stat(socket); err == nil && info.Mode()&os.ModeSocket == 0 {
		return []Finding{fail("take it away, and start the agent", "%s is no socket", socket)}
	}
	// A container that has no journal: the agent looks, and changes nothing.
	_, err := agentapi.Ask(ctx, socket, agentapi.Request{
		Verb: agentapi.VerbPublish, Container: "doctor", Pod: agentapi.Pod{Namespace: "kube-system", Name: "doctor"},
	})
	if errors.Is(err, agentapi.ErrProtocol) {
		return []Finding{fail("give agent, plugin and this tool one version: see that the DaemonSet's rollout has ended, or run multiplexerd install", "%s", err)}
	}
	if err != nil && s.absent() {
		return notHere()
	}
	if err != nil {
		return []Finding{fail("start the agent, or see its log; on a node without one, set agentSocket to \"\"", "%s", err)}
	}
	version, wrong := s.askHTTP(ctx)
	if version != "" && version != s.Version {
		wrong = append(wrong, warn("see that the DaemonSet's rollout has ended", "the agent is version %q, this tool %q", version, s.Version))
	}
	if version == "" {
		version = "not known"
	}
	return orOK(wrong, "answers at %s, version %s", socket, version)
}

// askHTTP returns the agent's version, "" if it does not say.
func (s *sight) askHTTP(ctx context.Context) (version string, wrong []Finding) {
	if s.Metrics == "" {
		return "", nil
	}
	ready, code, err := get(ctx, "http://"+s.Metrics+"/readyz")
	if err != nil {
		return "", []Finding{warn("set --metrics-address to the agent's", "it answers the plugin, but not at %s: %s", s.Metrics, err)}
	}
	if code != http.StatusOK {
		wrong = append(wrong, warn("the text says what it waits for; see its log", "it is not ready: %s", strings.TrimSpace(ready)))
	}
	metrics, _, err := get(ctx, "http://"+s.Metrics+"/metrics")
	if err != nil {
		return "", wrong
	}
	if m := regexp.MustCompile(`(?m)^multiplexer_build_info\{.*version="([^"]*)"\} 1$`).FindStringSubmatch(metrics); m != nil {
		version = m[1]
	}
	return version, wrong
}

// get asks a server of this node, past any proxy.
func get(ctx context.Context, url string) (body string, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", 0, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", 0, errors.New("no answer in time")
	}
	if err != nil {
		return "", 0, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err != nil {
		return "", 0, fmt.Errorf("read the answer: %w", err)
	}
	return string(raw), answer.StatusCode, nil
}
