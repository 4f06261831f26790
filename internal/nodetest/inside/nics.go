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
		addresses, addrsErr := nic.Addrs()
		if addrsErr != nil {
			fmt.Println("nics:", addrsErr)
		}
		fmt.Println("nic", nic.Name, strings.Trim(fmt.Sprint(addresses), "[]"))
	}
}
