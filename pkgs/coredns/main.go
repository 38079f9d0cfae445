// Command coredns is upstream's CoreDNS with fewer plugins: the ones that Kubernetes' own Corefile
// uses, and a few that administrators of a cluster add to it.
//
// The server, the plugins and their order are upstream's; only the list of imports differs. It leaves
// out the plugins for other sources of names (files, clouds, etcd, Nomad) and for other transports,
// whose libraries would double the program. A Corefile that names one of them is refused at the start
// with "Unknown directive".
package main

import (
	"github.com/coredns/coredns/coremain"

	// Kubernetes' default Corefile.
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"

	// Additions that are common in a cluster.
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/log"
)

func main() {
	coremain.Run()
}
