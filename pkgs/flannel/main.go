// Command flannel connects the pods of all nodes, and tells containerd how to connect pods to a node.
//
// It is upstream's flanneld with another main function. Backends, subnet manager and nftables rules are
// upstream's packages. It differs in three points:
//
//   - It has the backends vxlan, host-gw and wireguard, and Kubernetes as the only store, so that it
//     contains no library of a cloud, no etcd client and no iptables.
//   - It writes the CNI configuration itself, after the network works: a node is not Ready before. Upstream
//     installs it first, so that pods which start early fail and are retried.
//   - The configuration names the standard plugins bridge and host-local, with the node's own subnet and
//     MTU. Upstream's plugin `flannel` computes the same at each start of a pod, from a file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"k8s.io/klog/v2"

	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard"

	"kiln.local/pkgs/flannel/cni"
)

// The prefix of the annotations on a node, upstream's default.
const annotations = "flannel.alpha.coreos.com"

// The time that the health server gets to finish answers.
const drain = 3 * time.Second

// Set by the linker.
var version = "unknown"

type options struct {
	config     string
	subnetFile string
	conflist   string
	iface      string
	health     string
}

func main() {
	var o options
	flag.StringVar(&o.config, "net-config-path", "/etc/kube-flannel/net-conf.json", "the network's configuration")
	flag.StringVar(&o.subnetFile, "subnet-file", "/run/flannel/subnet.env", "the file that describes the node's subnet to other programs")
	flag.StringVar(&o.conflist, "cni-conflist", "/etc/cni/net.d/10-flannel.conflist", "the CNI configuration to write")
	flag.StringVar(&o.iface, "iface", "", "name or address of the interface to other nodes; default: the one of the default route")
	flag.StringVar(&o.health, "health", "127.0.0.1:8285", "address and port of /healthz and /readyz")
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *show {
		fmt.Println("flannel", version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "flannel: %s\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	var ready atomic.Bool
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	if err := serveHealth(ctx, &tasks, o.health, &ready); err != nil {
		return err
	}
	manager, err := kube.NewSubnetManager(ctx, "", "", annotations, o.config, true)
	if err != nil {
		return fmt.Errorf("cannot read the cluster's nodes: %w", err)
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", o.config, err)
	}
	network, err := register(ctx, &tasks, manager, config, o.iface)
	if err != nil {
		return err
	}
	if err := masquerade(ctx, config, network); err != nil {
		return err
	}
	lease := network.Lease()
	if err := manager.HandleSubnetFile(o.subnetFile, config, true, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return fmt.Errorf("cannot write %s: %w", o.subnetFile, err)
	}
	tasks.Go(func() { network.Run(ctx) })
	if err := manager.CompleteLease(ctx, lease, &tasks); err != nil {
		return fmt.Errorf("cannot report the network on the node: %w", err)
	}
	if err := cni.Write(o.conflist, attachment(config, network)); err != nil {
		return err
	}
	klog.Infof("the node's subnet is %s, and %s is written", lease.Subnet, o.conflist)
	ready.Store(true)
	<-ctx.Done()
	return nil
}

// Chooses the interface to other nodes and joins the network on it.
func register(ctx context.Context, tasks *sync.WaitGroup, manager subnet.Manager, config *subnet.Config, name string) (backend.Network, error) {
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("cannot choose an address family: %w", err)
	}
	// Annotations of the Node that its administrator can set.
	var public ipmatch.PublicIPOpts
	public.PublicIP, public.PublicIPv6 = manager.GetStoredPublicIP(ctx)
	if name == "" {
		name = public.PublicIP
	}
	if name == "" {
		name = public.PublicIPv6
	}
	iface, err := ipmatch.LookupExtIface(name, "", "", stack, public)
	if err != nil {
		return nil, fmt.Errorf("cannot find the interface to other nodes: %w", err)
	}
	chosen, err := backend.NewManager(ctx, manager, iface).GetBackend(config.BackendType)
	if err != nil {
		return nil, fmt.Errorf("cannot use the backend %q (there are vxlan, host-gw and wireguard): %w", config.BackendType, err)
	}
	network, err := chosen.RegisterNetwork(ctx, tasks, config)
	if err != nil {
		return nil, fmt.Errorf("cannot join the network: %w", err)
	}
	return network, nil
}

// Lets pods reach addresses outside the network under the node's own address.
func masquerade(ctx context.Context, config *subnet.Config, network backend.Network) error {
	var rules nftables.NFTablesManager
	if err := rules.Init(ctx); err != nil {
		return fmt.Errorf("cannot make nftables' tables: %w", err)
	}
	// The rules replace those of an earlier run, so that run's subnets are of no interest.
	err := rules.SetupAndEnsureMasqRules(ctx,
		config.Network, ip.IP4Net{}, ip.IP4Net{},
		config.IPv6Network, ip.IP6Net{}, ip.IP6Net{},
		network.Lease(), 0, false)
	if err != nil {
		return fmt.Errorf("cannot make the rules for masquerading: %w", err)
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, 0)
	return nil
}

// Describes the node's part of the network to the CNI plugins.
func attachment(config *subnet.Config, network backend.Network) cni.Attachment {
	lease := network.Lease()
	at := cni.Attachment{MTU: network.MTU()}
	if config.EnableIPv4 {
		at.Subnets = append(at.Subnets, lease.Subnet.String())
	}
	if config.EnableIPv6 {
		at.Subnets = append(at.Subnets, lease.IPv6Subnet.String())
	}
	return at
}

func serveHealth(ctx context.Context, tasks *sync.WaitGroup, address string, ready *atomic.Bool) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "running") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, "ready:", ready.Load())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: drain}
	tasks.Go(func() { _ = server.Serve(listener) })
	tasks.Go(func() {
		<-ctx.Done()
		limited, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		_ = server.Shutdown(limited)
	})
	return nil
}
