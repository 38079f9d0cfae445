// Package cni writes the CNI configuration with which containerd connects pods to a node's subnet.
//
// Format: the CNI specification 1.1, "Network configuration format"; keys of the plugins bridge,
// host-local and portmap of github.com/containernetworking/plugins.
package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Attachment is a node's part of the network.
type Attachment struct {
	// The node's subnets in CIDR notation, at most one per family.
	Subnets []string
	// The largest packet that the way to other nodes carries, in bytes.
	MTU int
}

type conflist struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Plugins    []any  `json:"plugins"`
}

type bridge struct {
	Type             string `json:"type"`
	Bridge           string `json:"bridge"`
	MTU              int    `json:"mtu"`
	HairpinMode      bool   `json:"hairpinMode"`
	IsDefaultGateway bool   `json:"isDefaultGateway"`
	IPAM             ipam   `json:"ipam"`
}

type ipam struct {
	Type    string   `json:"type"`
	DataDir string   `json:"dataDir"`
	Ranges  [][]pool `json:"ranges"`
}

type pool struct {
	Subnet string `json:"subnet"`
}

// The folder of host-local's leases. It vanishes with a boot, as the pods do that hold them.
const leases = "/run/cni-ipam-state"

// Render returns the configuration list as JSON.
func Render(at Attachment) ([]byte, error) {
	if len(at.Subnets) == 0 {
		return nil, fmt.Errorf("cannot write a CNI configuration: the node has no subnet")
	}
	var ranges [][]pool
	for _, subnet := range at.Subnets {
		if _, err := netip.ParsePrefix(subnet); err != nil {
			return nil, fmt.Errorf("cannot write a CNI configuration: %w", err)
		}
		ranges = append(ranges, []pool{{Subnet: subnet}})
	}
	return json.MarshalIndent(conflist{
		CNIVersion: "1.0.0",
		Name:       "flannel",
		Plugins: []any{bridge{
			Type:             "bridge",
			Bridge:           "cni0",
			MTU:              at.MTU,
			HairpinMode:      true,
			IsDefaultGateway: true,
			IPAM:             ipam{Type: "host-local", DataDir: leases, Ranges: ranges},
		}},
	}, "", "  ")
}

// Write replaces the file at path, unless it has the same content already: containerd loads the
// network again after each change.
func Write(path string, at Attachment) error {
	text, err := Render(at)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	// containerd ignores names without a known suffix, so it never reads half a file.
	scratch, err := os.CreateTemp(filepath.Dir(path), ".flannel-*.new")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer os.Remove(scratch.Name())
	_, err = scratch.Write(text)
	if err == nil {
		err = scratch.Chmod(0o644)
	}
	if closed := scratch.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(scratch.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}
