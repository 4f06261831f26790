package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// handler serves /healthz, /readyz and /metrics.
func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.Ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

func reply(w http.ResponseWriter, err error) {
	text := "ok"
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = err.Error()
	}
	// Whoever asked has gone if this fails.
	_, _ = fmt.Fprintln(w, text)
}

// watchers is how many connections monitoring may have: others on the node
// may connect too, and must not take our descriptors.
const watchers = 16

// listenHTTP opens the address for monitoring; nil without one.
func (a *Agent) listenHTTP(ctx context.Context) (net.Listener, error) {
	if a.MetricsAddress == "" {
		return nil, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.MetricsAddress)
	if err != nil {
		return nil, fmt.Errorf("--metrics-address %s: %w; choose another, or \"\" for none", a.MetricsAddress, err)
	}
	return netutil.LimitListener(listener, watchers), nil
}

// serveHTTP answers monitoring until ctx ends; without a listener, nobody.
func (a *Agent) serveHTTP(ctx context.Context, listener net.Listener) error {
	if listener == nil {
		<-ctx.Done()
		return nil
	}
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func closed(listener net.Listener) error {
	if listener == nil {
		return nil
	}
	return listener.Close()
}
