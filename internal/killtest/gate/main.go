// Gate is a CNI plugin that stands last in a chain and can be shut: a call
// for a pod waits as long as the file /run/killtest/shut/VERB-POD is there,
// two minutes at most, and says that it has come by /run/killtest/at/VERB-POD.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

const dir = "/run/killtest"

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: func(args *skel.CmdArgs) error {
			if err := pass("ADD", args); err != nil {
				return err
			}
			return printPrevious(args)
		},
		Del:    func(args *skel.CmdArgs) error { return pass("DEL", args) },
		Check:  func(*skel.CmdArgs) error { return nil },
		GC:     func(*skel.CmdArgs) error { return nil },
		Status: func(*skel.CmdArgs) error { return nil },
	}, version.All, "gate: a test's plugin that waits")
}

// pass waits until the gate is open for the pod.
func pass(verb string, args *skel.CmdArgs) error {
	var kube struct {
		types.CommonArgs
		K8S_POD_NAME types.UnmarshallableString // the name that it has in CNI_ARGS
	}
	kube.IgnoreUnknown = true
	if err := types.LoadArgs(args.Args, &kube); err != nil {
		return fmt.Errorf("read CNI_ARGS: %w", err)
	}
	name := verb + "-" + string(kube.K8S_POD_NAME)
	shut := func() bool {
		_, err := os.Stat(filepath.Join(dir, "shut", name))
		return err == nil
	}
	if !shut() {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "at", name), nil, 0o600); err != nil {
		return fmt.Errorf("say that %s waits: %w", name, err)
	}
	for end := time.Now().Add(2 * time.Minute); shut() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func printPrevious(args *skel.CmdArgs) error {
	conf := &types.PluginConf{}
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return err
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}
