package baked

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// criNamespace is the namespace of CRI's images.
const criNamespace = "k8s.io"

// config is the table [plugins."io.containerd.service.v1.baked"].
type config struct {
	// Layout is the folder of the OCI image layout.
	Layout string `toml:"layout"`
	// Snapshotter is the snapshotter that CRI uses.
	Snapshotter string `toml:"snapshotter"`
}

// CRI's image plugin requires all plugins of the type ServicePlugin, so this one starts before it.
func init() {
	registry.Register(&plugin.Registration{
		Type: plugins.ServicePlugin,
		ID:   "baked",
		Requires: []plugin.Type{
			plugins.ContentPlugin,
			plugins.LeasePlugin,
			plugins.MetadataPlugin,
		},
		Config: &config{
			Layout:      "/usr/share/kiln/pods/images",
			Snapshotter: "overlayfs",
		},
		InitFn: start,
	})
}

// start registers the images in the background, so that the other plugins start in parallel. containerd
// reports that it is ready (sd_notify) only after the registration has ended.
//
// CRI learns of every image, in whichever order they start: it subscribes to the events of new records,
// and then reads all existing records.
//
// Objects that no record refers to any more are removed by the collection that containerd's scheduler
// runs some time after each start (`startup_delay`).
//
// start never fails, because a node with some images is better than a node without containerd.
func start(ic *plugin.InitContext) (any, error) {
	from := layout(ic.Config.(*config).Layout)
	to, err := open(ic, from)
	if err != nil {
		warn(ic.Context, from, err)
		return from, nil
	}
	ready := ic.RegisterReadiness()
	go func() {
		defer ready()
		run(ic.Context, from, to)
	}()
	return from, nil
}

func run(ctx context.Context, from layout, to stores) {
	begin := time.Now()
	done, err := register(namespaces.WithNamespace(ctx, criNamespace), from, to)
	logger := log.G(ctx).WithField("layout", string(from))
	if errors.Is(err, os.ErrNotExist) && done == (report{}) {
		logger.WithError(err).Warn("there are no baked images")
	} else if err != nil {
		warn(ctx, from, err)
	}
	logger.WithField("d", time.Since(begin)).
		Infof("baked images: %d imported, %d kept, %d removed", done.imported, done.kept, done.removed)
}

func warn(ctx context.Context, from layout, err error) {
	log.G(ctx).WithField("layout", string(from)).WithError(err).
		Error("baked images are missing: pods that use them will not start")
}

// open returns containerd's stores.
func open(ic *plugin.InitContext, from layout) (stores, error) {
	name := ic.Config.(*config).Snapshotter
	found, err := ic.GetSingle(plugins.MetadataPlugin)
	if err != nil {
		return stores{}, err
	}
	db := found.(*metadata.DB)
	if found, err = ic.GetSingle(plugins.LeasePlugin); err != nil {
		return stores{}, err
	}
	files, err := ic.GetSingle(plugins.ContentPlugin)
	if err != nil {
		return stores{}, err
	}
	snapshotter := db.Snapshotter(name)
	if snapshotter == nil {
		return stores{}, fmt.Errorf("there is no snapshotter %q", name)
	}
	return stores{
		content:         db.ContentStore(),
		files:           files.(content.Store),
		images:          metadata.NewImageStore(db),
		leases:          found.(leases.Manager),
		snapshotter:     snapshotter,
		snapshotterName: name,
		applier:         apply.NewFileSystemApplier(from),
	}, nil
}
