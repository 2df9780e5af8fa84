// A vCenter or an ESXi host for tests: the simulator that Debian packages, with a front that can make trouble.
// Commands come as lines of JSON on standard input, and it ends when that does, so it never outlives its test.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	esx := flag.Bool("esx", false, "a standalone host in place of a vCenter")
	vms := flag.Int("vms", 1, "VMs per pool: a vCenter has two pools, a host one")
	datacenters := flag.Int("datacenters", 1, "datacenters of a vCenter")
	cert := flag.String("cert", "", "certificate (PEM)")
	private := flag.String("key", "", "its private key (PEM)")
	user := flag.String("user", "backup", "the only account")
	flag.Parse()
	log.SetOutput(io.Discard)
	// The account's password comes from the environment, where the command line would show it.
	if err := run(*esx, *vms, *datacenters, *cert, *private, *user, os.Getenv("VSPHERE_PEER_PASSWORD")); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(esx bool, vms, datacenters int, cert, private, user, password string) error {
	pair, err := tls.LoadX509KeyPair(cert, private)
	if err != nil {
		return err
	}
	model := simulator.VPX()
	model.Datacenter = datacenters
	if esx {
		model = simulator.ESX()
	}
	model.Machine = vms
	defer model.Remove()
	if err := model.Create(); err != nil {
		return err
	}
	simulator.PeerToolsRun()
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(user, password)}
	inner := model.Service.NewServer()
	defer inner.Close()
	front := &front{service: model.Service, user: user, password: password, calls: map[string]int{}, held: make(chan struct{})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secure := tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	server := &http.Server{Handler: front, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(secure)
	fmt.Printf("{\"address\":%q}\n", listener.Addr().String())
	return obey(os.Stdin, os.Stdout, front)
}
