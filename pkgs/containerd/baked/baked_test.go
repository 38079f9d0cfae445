package baked

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// node is a /var that survives boots and holds containerd's real stores.
type node struct {
	t       *testing.T
	folder  string
	context context.Context
	// layersUntilPowerCut is the number of layers that are still unpacked; below 0 there is no power cut.
	layersUntilPowerCut int
}

var errPowerCut = errors.New("power cut")

func newNode(t *testing.T) *node {
	return &node{
		t:                   t,
		folder:              t.TempDir(),
		context:             namespaces.WithNamespace(context.Background(), criNamespace),
		layersUntilPowerCut: -1,
	}
}

// booted is the node during one boot.
type booted struct {
	*node
	db     *metadata.DB
	stores stores
	report report
	err    error
}

// boot opens the stores again, imports the layout and calls check.
func (n *node) boot(from layout, check func(booted)) {
	n.t.Helper()
	now, shut := n.open(from)
	defer shut()
	now.report, now.err = register(n.context, from, now.stores)
	check(now)
}

// open opens the stores as containerd does when it starts.
func (n *node) open(from layout) (booted, func()) {
	n.t.Helper()
	content, err := local.NewStore(filepath.Join(n.folder, "content"))
	must(n.t, err)
	snapshotter, err := native.NewSnapshotter(filepath.Join(n.folder, "native"))
	must(n.t, err)
	file, err := bolt.Open(filepath.Join(n.folder, "meta.db"), 0o600, nil)
	must(n.t, err)
	db := metadata.NewDB(file, content, map[string]snapshots.Snapshotter{"native": snapshotter})
	must(n.t, db.Init(n.context))
	to := stores{
		content:         db.ContentStore(),
		files:           content,
		images:          metadata.NewImageStore(db),
		leases:          metadata.NewLeaseManager(db),
		snapshotter:     db.Snapshotter("native"),
		snapshotterName: "native",
		applier:         &unprivilegedApplier{node: n, from: from},
	}
	return booted{node: n, db: db, stores: to}, func() {
		must(n.t, file.Close())
		must(n.t, snapshotter.Close())
	}
}

// unprivilegedApplier works like containerd's applier, but without a mount and without chown.
type unprivilegedApplier struct {
	node *node
	from layout
}

func (a *unprivilegedApplier) Apply(
	ctx context.Context, blob ocispec.Descriptor, mounts []mount.Mount, _ ...diff.ApplyOpt,
) (ocispec.Descriptor, error) {
	if a.node.isCut() {
		return ocispec.Descriptor{}, errPowerCut
	}
	reader, err := a.from.ReaderAt(ctx, blob)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer reader.Close()
	hash := digest.Canonical.Digester()
	bytes := io.TeeReader(io.NewSectionReader(reader, 0, reader.Size()), hash.Hash())
	if _, err := archive.Apply(ctx, mounts[0].Source, bytes, archive.WithNoSameOwner()); err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = io.Copy(io.Discard, bytes)
	return ocispec.Descriptor{Digest: hash.Digest(), Size: reader.Size()}, err
}

func (n *node) isCut() bool {
	if n.layersUntilPowerCut == 0 {
		return true
	}
	n.layersUntilPowerCut--
	return false
}

// digests maps the names of all records to their targets.
func (b booted) digests() map[string]digest.Digest {
	b.t.Helper()
	records, err := b.stores.images.List(b.context)
	must(b.t, err)
	found := map[string]digest.Digest{}
	for _, record := range records {
		found[record.Name] = record.Target.Digest
	}
	return found
}

// expect compares the report and the records with the expected ones.
func (b booted) expect(kept, imported, removed int, from testLayout) {
	b.t.Helper()
	if b.err != nil {
		b.t.Fatalf("register: %v", b.err)
	}
	if b.report.kept != kept || b.report.imported != imported || b.report.removed != removed {
		b.t.Fatalf("%+v, not kept %d, imported %d, removed %d", b.report, kept, imported, removed)
	}
	b.expectRecords(from.digests)
}

func (b booted) expectRecords(expected map[string]digest.Digest) {
	b.t.Helper()
	found := b.digests()
	if len(found) != len(expected) {
		b.t.Fatalf("records %v, not %v", found, expected)
	}
	for name, want := range expected {
		if found[name] != want {
			b.t.Fatalf("record %s is %s, not %s", name, found[name], want)
		}
	}
}

// expectNothingElse collects garbage and then counts blobs, snapshots and leases.
func (b booted) expectNothingElse(blobs, layers int) {
	b.t.Helper()
	_, err := b.db.GarbageCollect(b.context)
	must(b.t, err)
	if found := countFiles(b.t, filepath.Join(b.folder, "content", "blobs")); found != blobs {
		b.t.Errorf("%d blobs, not %d", found, blobs)
	}
	found := 0
	must(b.t, b.stores.snapshotter.Walk(b.context, func(_ context.Context, info snapshots.Info) error {
		found++
		if info.Kind != snapshots.KindCommitted {
			b.t.Errorf("snapshot %s is %s", info.Name, info.Kind)
		}
		return nil
	}))
	if found != layers {
		b.t.Errorf("%d snapshots, not %d", found, layers)
	}
	leases, err := b.stores.leases.List(b.context)
	must(b.t, err)
	if len(leases) != 0 {
		b.t.Errorf("leases are left: %v", leases)
	}
}

// expectUsable reads each image as CRI does: manifest, configuration, and the snapshot with the text.
func (b booted) expectUsable(from testLayout) {
	b.t.Helper()
	for name, text := range from.texts {
		record, err := b.stores.images.Get(b.context, name)
		must(b.t, err)
		available, _, _, _, err := images.Check(b.context, b.stores.content, record.Target, nil)
		must(b.t, err)
		if !available {
			b.t.Errorf("CRI would not load %s", name)
		}
		image, err := from.layout.image(from.descriptor(b.t, name))
		must(b.t, err)
		mounts, err := b.stores.snapshotter.View(b.context, "view-"+name, image.chainID())
		must(b.t, err)
		bytes, err := os.ReadFile(filepath.Join(mounts[0].Source, "program"))
		must(b.t, err)
		if string(bytes) != text {
			b.t.Errorf("%s holds %q, not %q", name, bytes, text)
		}
		must(b.t, b.stores.snapshotter.Remove(b.context, "view-"+name))
	}
}

func TestAFreshNodeGetsAllImages(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/dhcp:latest": "dhcp 1", "kiln.local/ntp:latest": "ntp 1"})
	newNode(t).boot(a.layout, func(now booted) {
		now.expect(0, 2, 0, a)
		now.expectUsable(a)
		// Manifest and configuration of each, but no layer.
		now.expectNothingElse(4, 2)
		now.expectUsable(a)
		record, err := now.stores.images.Get(now.context, "kiln.local/dhcp:latest")
		must(t, err)
		if !contains(record.Labels, recordLabels) {
			t.Errorf("labels are %v", record.Labels)
		}
	})
}

func TestASecondBootWritesNothing(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/dhcp:latest": "dhcp 1", "kiln.local/ntp:latest": "ntp 1"})
	n := newNode(t)
	n.boot(a.layout, func(now booted) { now.expect(0, 2, 0, a) })
	n.layersUntilPowerCut = 0
	n.boot(a.layout, func(now booted) {
		now.expect(2, 0, 0, a)
		now.expectUsable(a)
	})
}

func TestAnotherImageFileReplacesChangedImagesAndRemovesMissingOnes(t *testing.T) {
	a := writeLayout(t, map[string]string{
		"kiln.local/same:latest":    "same",
		"kiln.local/changed:latest": "before",
		"kiln.local/removed:latest": "gone",
	})
	b := writeLayout(t, map[string]string{
		"kiln.local/same:latest":    "same",
		"kiln.local/changed:latest": "after",
		"kiln.local/added:latest":   "new",
	})
	n := newNode(t)
	n.boot(a.layout, func(now booted) { now.expect(0, 3, 0, a) })
	n.boot(b.layout, func(now booted) {
		now.expect(1, 2, 1, b)
		now.expectNothingElse(6, 3)
		now.expectUsable(b)
	})
	n.boot(a.layout, func(now booted) {
		now.expect(1, 2, 1, a)
		now.expectNothingElse(6, 3)
		now.expectUsable(a)
	})
}

func TestAnotherTagOfTheSameImageNeedsNoSecondSnapshot(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/web:1": "web"})
	b := writeLayout(t, map[string]string{"kiln.local/web:2": "web"})
	n := newNode(t)
	n.boot(a.layout, func(now booted) { now.expect(0, 1, 0, a) })
	n.layersUntilPowerCut = 0
	n.boot(b.layout, func(now booted) {
		now.expect(0, 1, 1, b)
		now.expectNothingElse(2, 1)
		now.expectUsable(b)
	})
}

func TestTheNextBootFinishesAnInterruptedImport(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 1", "kiln.local/two:latest": "two 1"})
	b := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 2", "kiln.local/two:latest": "two 2"})
	for layers := range 2 {
		n := newNode(t)
		n.boot(a.layout, func(now booted) { now.expect(0, 2, 0, a) })
		n.cutPower(b.layout, layers)
		n.boot(b.layout, func(now booted) {
			now.expect(layers, 2-layers, 0, b)
			now.expectNothingElse(4, 2)
			now.expectUsable(b)
		})
	}
}

func TestAnotherImageFileCollectsTheGarbageOfAnInterruptedImport(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 1"})
	b := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 2"})
	n := newNode(t)
	n.boot(a.layout, func(now booted) { now.expect(0, 1, 0, a) })
	n.cutPower(b.layout, 0)
	n.boot(a.layout, func(now booted) {
		now.expect(1, 0, 0, a)
		now.expectNothingElse(2, 1)
		now.expectUsable(a)
	})
}

// cutPower imports until the given number of layers is unpacked and then stops, as in a power cut.
func (n *node) cutPower(from layout, layers int) {
	n.t.Helper()
	n.layersUntilPowerCut = layers
	defer func() { n.layersUntilPowerCut = -1 }()
	now, shut := n.open(from)
	defer shut()
	now.stores.snapshotter = withoutCleanup{now.stores.snapshotter}
	index, err := from.index()
	must(n.t, err)
	for _, descriptor := range index {
		if _, err = now.stores.registerOne(n.context, from, descriptor); err != nil {
			break
		}
	}
	if !errors.Is(err, errPowerCut) {
		n.t.Fatalf("the import stopped with %v", err)
	}
}

// withoutCleanup leaves incomplete snapshots behind.
type withoutCleanup struct{ snapshots.Snapshotter }

func (withoutCleanup) Remove(context.Context, string) error { return errPowerCut }

func TestADamagedBlobIsRefusedByNameAndStopsNoOtherImage(t *testing.T) {
	texts := map[string]string{"kiln.local/bad:latest": "to be damaged", "kiln.local/good:latest": "good"}
	for _, part := range []string{"manifest", "config", "layer"} {
		t.Run(part, func(t *testing.T) {
			a := writeLayout(t, maps.Clone(texts))
			damaged := a.damage(t, "kiln.local/bad:latest", part)
			newNode(t).boot(a.layout, func(now booted) {
				now.expectFailure("kiln.local/bad:latest", damaged.String())
				delete(a.digests, "kiln.local/bad:latest")
				delete(a.texts, "kiln.local/bad:latest")
				now.expectRecords(a.digests)
				now.expectNothingElse(2, 1)
				now.expectUsable(a)
			})
		})
	}
}

func (b booted) expectFailure(words ...string) {
	b.t.Helper()
	if b.err == nil {
		b.t.Fatal("no error")
	}
	for _, word := range words {
		if !strings.Contains(b.err.Error(), word) {
			b.t.Errorf("%q does not name %s", b.err, word)
		}
	}
}

func TestADamagedBlobOnTheDiskIsWrittenAgainFromTheFile(t *testing.T) {
	damages := map[string]func(path string) error{
		"changed": func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
		"cut":     func(path string) error { return os.Truncate(path, 10) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"missing": os.Remove,
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			a := writeLayout(t, map[string]string{"kiln.local/dhcp:latest": "dhcp 1", "kiln.local/ntp:latest": "ntp 1"})
			n := newNode(t)
			n.boot(a.layout, func(now booted) { now.expect(0, 2, 0, a) })
			blobs, err := filepath.Glob(filepath.Join(n.folder, "content/blobs/sha256/*"))
			must(t, err)
			if len(blobs) != 4 {
				t.Fatalf("blobs are %v", blobs)
			}
			for _, blob := range blobs {
				must(t, os.Chmod(blob, 0o600))
				must(t, damage(blob))
			}
			n.layersUntilPowerCut = 0
			n.boot(a.layout, func(now booted) {
				now.expect(2, 0, 0, a)
				now.expectNothingElse(4, 2)
				now.expectUsable(a)
			})
			n.boot(a.layout, func(now booted) { now.expectUsable(a) })
		})
	}
}

func TestADamagedBlobWithoutItsImageIsWrittenAgainToo(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 1"})
	n := newNode(t)
	n.boot(a.layout, func(now booted) {
		now.expect(0, 1, 0, a)
		blobs, err := filepath.Glob(filepath.Join(n.folder, "content/blobs/sha256/*"))
		must(t, err)
		for _, blob := range blobs {
			must(t, os.Remove(blob))
		}
		must(t, now.stores.images.Delete(n.context, "kiln.local/one:latest"))
	})
	n.boot(a.layout, func(now booted) {
		now.expect(0, 1, 0, a)
		now.expectUsable(a)
	})
}

func TestADamagedImageIsNotReplacedByItsPredecessor(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 1"})
	b := writeLayout(t, map[string]string{"kiln.local/one:latest": "to be damaged"})
	damaged := b.damage(t, "kiln.local/one:latest", "layer")
	n := newNode(t)
	n.boot(a.layout, func(now booted) { now.expect(0, 1, 0, a) })
	n.boot(b.layout, func(now booted) {
		now.expectFailure(damaged.String())
		now.expectRecords(nil)
		now.expectNothingElse(0, 0)
	})
}

func TestAnUnreadableIndexRemovesNothing(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 1"})
	n := newNode(t)
	n.boot(a.layout, func(now booted) { now.expect(0, 1, 0, a) })
	n.boot(layout(t.TempDir()), func(now booted) {
		if !errors.Is(now.err, os.ErrNotExist) {
			t.Errorf("error is %v", now.err)
		}
		now.expectRecords(a.digests)
	})
}

func TestImagesWithoutTheLabelAreLeftAlone(t *testing.T) {
	a := writeLayout(t, map[string]string{"kiln.local/one:latest": "one 1"})
	b := writeLayout(t, map[string]string{})
	n := newNode(t)
	foreign := map[string]digest.Digest{}
	n.boot(a.layout, func(now booted) {
		record, err := now.stores.images.Get(n.context, "kiln.local/one:latest")
		must(t, err)
		record.Name, record.Labels = "registry.example/pulled:1", nil
		_, err = now.stores.images.Create(n.context, record)
		must(t, err)
		foreign[record.Name] = record.Target.Digest
	})
	n.boot(b.layout, func(now booted) {
		must(t, now.err)
		now.expectRecords(foreign)
		now.expectNothingElse(2, 1)
	})
}
