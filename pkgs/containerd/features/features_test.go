package features

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

func request(t *testing.T, path string, chosen any) *types.RuntimeRequest {
	t.Helper()
	packed, err := typeurl.MarshalAnyToProto(chosen)
	if err != nil {
		t.Fatal(err)
	}
	return &types.RuntimeRequest{RuntimePath: path, Options: packed}
}

// configured returns the program in the node's configuration.
func configured(t *testing.T) string {
	t.Helper()
	config, err := os.ReadFile("../../../rootfs/usr/share/kiln/containerd.toml")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\s*BinaryName = "(.*)"$`).FindSubmatch(config)
	if found == nil {
		return ""
	}
	return string(found[1])
}

func TestTheFeaturesAreGivenOnlyForTheProgramOfTheImage(t *testing.T) {
	if !isRunc(&types.RuntimeRequest{RuntimePath: runtimeType}) {
		t.Error("runc without options is queried")
	}
	if !isRunc(request(t, runtimeType, &options.Options{SystemdCgroup: true})) {
		t.Error("runc with options is queried")
	}
	if !isRunc(request(t, runtimeType, &options.Options{BinaryName: configured(t)})) {
		t.Error("the runc of the node's configuration is queried")
	}
	if isRunc(request(t, runtimeType, &options.Options{BinaryName: "/usr/bin/crun"})) {
		t.Error("runc's features are given for another program")
	}
	if isRunc(request(t, "io.containerd.kata.v2", &options.Options{})) {
		t.Error("runc's features are given for another runtime")
	}
}

func TestCRICanReadTheFeatures(t *testing.T) {
	answer, err := info()
	if err != nil {
		t.Fatal(err)
	}
	found, err := typeurl.UnmarshalAny(answer.Features)
	if err != nil {
		t.Fatal(err)
	}
	known, ok := found.(*features.Features)
	if !ok || !slices.Contains(known.MountOptions, "rro") {
		t.Errorf("CRI cannot read %v", found)
	}
}

func TestNoPluginIsLost(t *testing.T) {
	before := len(registry.Graph(nil))
	Install()
	if after := len(registry.Graph(nil)); before == 0 || after != before {
		t.Errorf("%d plugins before, %d after", before, after)
	}
}
