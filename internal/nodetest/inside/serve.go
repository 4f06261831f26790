package main

import (
	"fmt"
	"net"
	"os"
)

const servePort = 8080

// serve answers every TCP connection and every UDP packet, of both families,
// with a line: the pod's name, the address that was asked, and the one that
// asked. Each address has a UDP socket of its own: an answer of a socket at
// the wildcard address would have the source that the kernel likes best.
func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{Port: servePort})
	if err != nil {
		return err
	}
	go serveTCP(listener, name)
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		prefix, ok := a.(*net.IPNet)
		if !ok || prefix.IP.IsLinkLocalUnicast() {
			continue
		}
		conn, udpErr := net.ListenUDP("udp", &net.UDPAddr{IP: prefix.IP, Port: servePort})
		if udpErr != nil {
			return udpErr
		}
		go serveUDP(conn, name)
	}
	return nil
}

func serveTCP(listener *net.TCPListener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		// Who asks may be gone already.
		_, _ = conn.Write(line(name, conn.LocalAddr(), conn.RemoteAddr()))
		_ = conn.Close()
	}
}

func serveUDP(conn *net.UDPConn, name string) {
	packet := make([]byte, 1500)
	for {
		_, from, err := conn.ReadFrom(packet)
		if err != nil {
			fail(err)
		}
		_, _ = conn.WriteTo(line(name, conn.LocalAddr(), from), from)
	}
}

func line(name string, local, remote net.Addr) []byte {
	return fmt.Appendf(nil, "%s %s %s\n", name, host(local), host(remote))
}

func host(a net.Addr) string {
	address, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return address
}
