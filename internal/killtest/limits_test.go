package killtest

import (
	"os"
	"time"
)

// envOutage is how long the last of the disturbances lasts. Ordinary limits
// are met by a minute; 10 s, the default, come with limits to match.
const envOutage = "MULTIPLEXER_KILL_OUTAGE"

// limit are the limits that an outage is to outlast, of an ADD of the plugin
// and of the controller that waits for a node's word, and others that are only
// waited for.
type limit struct {
	outage            time.Duration
	plugin            map[string]string // the key "timeout"; nil = the default
	kubelet           map[string]any
	controllerManager []string
	apiServer         []string
}

func limits() limit {
	l := limit{
		outage: 10 * time.Second,
		// 9 s for an ADD.
		plugin: map[string]string{"add": "16s", "del": "7s"},
		// Whatever is tried again and again is tried every second.
		kubelet:           map[string]any{"crashLoopBackOff": map[string]any{"maxContainerRestartPeriod": "1s"}},
		controllerManager: []string{"--node-monitor-grace-period=8s"},
		// So long an API server that ends waits for watches.
		apiServer: []string{"--request-timeout=8s"},
	}
	if d, err := time.ParseDuration(os.Getenv(envOutage)); err == nil {
		// 55 s for an ADD, and 50 s for a node.
		l.outage, l.plugin, l.controllerManager, l.apiServer = d, nil, nil, nil
	} else {
		l.kubelet["runtimeRequestTimeout"] = "20s"
	}
	return l
}
