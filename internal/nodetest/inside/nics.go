package main

import (
	"fmt"
	"net"
	"strings"
)

// showNICs writes which NICs there are when a container starts.
func showNICs() {
	nics, err := net.Interfaces()
	if err != nil {
		fmt.Println("nics:", err)
	}
	for _, nic := range nics {
		addresses, err := nic.Addrs()
		if err != nil {
			fmt.Println("nics:", err)
		}
		fmt.Println("nic", nic.Name, strings.Trim(fmt.Sprint(addresses), "[]"))
	}
}
