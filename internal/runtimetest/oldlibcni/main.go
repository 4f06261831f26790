// Command oldlibcni calls a network as runtimes did before CNI 1.1: with
// libcni v1.1.2, which knows no cniVersions, no STATUS and no GC. It is a
// module of its own, so that nothing raises the version of libcni.
//
//	oldlibcni add|check|del CONFLIST CACHEDIR < RUNTIMECONF
//
// The runtime configuration is libcni's RuntimeConf as JSON; plugins are looked
// for in CNI_PATH. The result of ADD is printed as it is cached.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {
	err := run(context.Background(), os.Args[1:])
	if err == nil {
		return
	}
	var e *types.Error
	if errors.As(err, &e) {
		fmt.Fprintf(os.Stderr, "code %d: ", e.Code)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: oldlibcni add|check|del CONFLIST CACHEDIR < RUNTIMECONF")
	}
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	var rt libcni.RuntimeConf
	if err = json.NewDecoder(os.Stdin).Decode(&rt); err != nil {
		return fmt.Errorf("decode runtime configuration: %w", err)
	}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), args[2], nil)
	switch args[0] {
	case "add":
		var result types.Result
		if result, err = cni.AddNetworkList(ctx, list, &rt); err != nil {
			return err
		}
		return result.PrintTo(os.Stdout)
	case "check":
		return cni.CheckNetworkList(ctx, list, &rt)
	case "del":
		return cni.DelNetworkList(ctx, list, &rt)
	}
	return fmt.Errorf("unknown verb %q", args[0])
}
