// Package features tells CRI the features of runc without starting a program. Upstream's containerd
// queries them at each start through the shim, which starts runc; until then nothing else can continue.
//
// The features that CRI reads do not depend on the machine (runtime-spec, features.md), so they are
// compiled in. `cargo xtask test` compares them with the output of the image's runc.
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
	// runtimeType is runc's type in CRI's configuration.
	runtimeType = "io.containerd.runc.v2"
	// runcPath is the runc of that configuration (rootfs/usr/share/kiln/containerd.toml).
	runcPath = "/usr/bin/runc"
)

// Install replaces upstream's plugin for tasks by one that knows the features. It must be called before
// the server starts.
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

// PluginInfo returns the compiled-in features for runc, and queries any other program.
func (m *taskManager) PluginInfo(ctx context.Context, request any) (any, error) {
	if runtime, ok := request.(*types.RuntimeRequest); ok && isRunc(runtime) {
		return info()
	}
	return m.TaskManager.PluginInfo(ctx, request)
}

// isRunc returns true for the runtime runc with the image's program.
func isRunc(request *types.RuntimeRequest) bool {
	if request.RuntimePath != runtimeType {
		return false
	}
	if request.Options == nil {
		return true
	}
	found, err := typeurl.UnmarshalAny(request.Options)
	chosen, ok := found.(*options.Options)
	return err == nil && ok && (chosen.BinaryName == "" || chosen.BinaryName == runcPath)
}

func info() (*types.RuntimeInfo, error) {
	var known features.Features
	if err := json.Unmarshal(runc, &known); err != nil {
		return nil, fmt.Errorf("cannot read the features of runc: %w", err)
	}
	packed, err := typeurl.MarshalAnyToProto(&known)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the features of runc: %w", err)
	}
	return &types.RuntimeInfo{Name: runtimeType, Features: packed}, nil
}
