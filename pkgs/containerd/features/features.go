// Package features answers CRI's question what runc can do, which upstream's containerd has the shim
// ask runc at each start: two programs one after the other, while nothing else can go on.
//
// What CRI looks at does not depend on the machine (runtime-spec, features.md), so it is part of this
// program. `cargo xtask test` compares it with what the image's runc says.
package features

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	v2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// runc is the output of `runc features`.
//
//go:embed runc.json
var runc []byte

const (
	// runtimeType is the one of runc, in CRI's configuration.
	runtimeType = "io.containerd.runc.v2"
	// runcPath is where that configuration has the image's runc (rootfs/usr/share/kiln/containerd.toml).
	runcPath = "/usr/bin/runc"
)

// Install replaces upstream's plugin for tasks by one that knows the features. Before the server starts.
func Install() {
	registrations := registry.Graph(nil)
	registry.Reset()
	for _, registration := range registrations {
		if registration.Type == plugins.RuntimePluginV2 && registration.ID == "task" {
			registration.InitFn = wrap(registration.InitFn)
		}
		registry.Register(&registration)
	}
}

func wrap(start func(*plugin.InitContext) (any, error)) func(*plugin.InitContext) (any, error) {
	return func(ic *plugin.InitContext) (any, error) {
		started, err := start(ic)
		if tasks, ok := started.(*v2.TaskManager); ok && err == nil {
			return &taskManager{tasks}, nil
		}
		return started, err
	}
}

type taskManager struct{ *v2.TaskManager }

// PluginInfo answers for runc itself; any other program is asked.
func (m *taskManager) PluginInfo(ctx context.Context, request any) (any, error) {
	if question, ok := request.(*types.RuntimeRequest); ok && isRunc(question) {
		return info()
	}
	return m.TaskManager.PluginInfo(ctx, request)
}

// isRunc is true for the runtime that has its usual program.
func isRunc(question *types.RuntimeRequest) bool {
	if question.RuntimePath != runtimeType {
		return false
	}
	if question.Options == nil {
		return true
	}
	found, err := typeurl.UnmarshalAny(question.Options)
	chosen, ok := found.(*options.Options)
	return err == nil && ok && (chosen.BinaryName == "" || chosen.BinaryName == runcPath)
}

func info() (*types.RuntimeInfo, error) {
	var known features.Features
	if err := json.Unmarshal(runc, &known); err != nil {
		return nil, fmt.Errorf("read the features of runc: %w", err)
	}
	packed, err := typeurl.MarshalAnyToProto(&known)
	if err != nil {
		return nil, fmt.Errorf("pack the features of runc: %w", err)
	}
	return &types.RuntimeInfo{Name: runtimeType, Features: packed}, nil
}
