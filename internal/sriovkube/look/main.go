// Command look prints what kubelet's pod-resources socket says, as JSON: for
// each pod, as namespace/name, container and resource, the devices.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

func main() {
	if err := look("unix:///var/lib/kubelet/pod-resources/kubelet.sock"); err != nil {
		fmt.Fprintln(os.Stderr, "look:", err)
		os.Exit(1)
	}
}

func look(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	list, err := podresources.NewPodResourcesListerClient(conn).List(ctx, &podresources.ListPodResourcesRequest{})
	if err != nil {
		return err
	}
	found := map[string]map[string]map[string][]string{}
	for _, pod := range list.GetPodResources() {
		containers := map[string]map[string][]string{}
		for _, c := range pod.GetContainers() {
			resources := map[string][]string{}
			for _, d := range c.GetDevices() {
				resources[d.GetResourceName()] = append(resources[d.GetResourceName()], d.GetDeviceIds()...)
			}
			containers[c.GetName()] = resources
		}
		found[pod.GetNamespace()+"/"+pod.GetName()] = containers
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
