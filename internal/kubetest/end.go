package kubetest

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// EndAPI asks the API server to end, and returns when it has: what it took is
// answered, and watches are ended. Until StartAPI, connections are refused.
func (c *Cluster) EndAPI() error {
	api := c.running()
	if api == nil {
		return errors.New("the API server does not run")
	}
	if err := api.signal(syscall.SIGTERM); err != nil {
		return err
	}
	// It waits for connections that are kept for the next request.
	c.client().Close()
	select {
	case <-api.done:
	case <-time.After(startTime):
		return fmt.Errorf("kube-apiserver does not end within %s: %s", startTime, api.tail())
	}
	c.setAPI(nil)
	return nil
}
