package baked

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// Label marks the records that this package owns. It changes and removes no other records.
	Label = "kiln.dev/baked"

	// leaseID is fixed, so that the next boot finds the lease of an interrupted import.
	leaseID = "kiln-baked"

	// References that containerd's garbage collector follows (docs/garbage-collection.md).
	configReference   = "containerd.io/gc.ref.content.config"
	snapshotReference = "containerd.io/gc.ref.snapshot."
)

// recordLabels are the labels of each of our records. The first two make CRI treat the image as its own
// and as pinned, so that kubelet's image garbage collection leaves the image alone.
var recordLabels = map[string]string{
	"io.cri-containerd.image":  "managed",
	"io.cri-containerd.pinned": "pinned",
	Label:                      "true",
}

// stores are the parts of containerd that hold an image.
type stores struct {
	content content.Store
	// files holds the bytes behind content, without its records.
	files       content.Store
	images      images.Store
	leases      leases.Manager
	snapshotter snapshots.Snapshotter
	// snapshotterName is part of the label that ties an image to its snapshot.
	snapshotterName string
	// applier unpacks blobs from the layout, not from the content store.
	applier diff.Applier
}

// report counts the images of an import.
type report struct {
	kept, imported, removed int
}

// register makes our records match the layout's index. The context names the namespace.
//
// A damaged image does not stop the others: its error is joined to the returned ones. Its record is
// removed if the record has another digest, because running an image that is not in the index is worse
// than running none.
func register(ctx context.Context, from layout, to stores) (report, error) {
	var done report
	index, err := from.index()
	if err != nil {
		return done, err
	}
	var failures []error
	wanted := make(map[string]digest.Digest, len(index))
	for _, descriptor := range index {
		name := descriptor.Annotations[images.AnnotationImageName]
		wanted[name] = descriptor.Digest
		imported, err := to.registerOne(ctx, from, descriptor)
		switch {
		case err != nil:
			failures = append(failures, fmt.Errorf("image %s: %w", name, err))
		case imported:
			done.imported++
		default:
			done.kept++
		}
	}
	if done.removed, err = to.removeOthers(ctx, wanted); err != nil {
		failures = append(failures, err)
	}
	// The records now refer to everything that is needed; the rest of the lease's objects is garbage.
	if err = to.dropLease(ctx); err != nil {
		failures = append(failures, err)
	}
	return done, errors.Join(failures...)
}

// registerOne registers an image; it returns false if the image was already complete.
func (s stores) registerOne(ctx context.Context, from layout, descriptor ocispec.Descriptor) (bool, error) {
	image, err := from.image(descriptor)
	if err != nil {
		return false, err
	}
	for _, blob := range []blob{image.manifest, image.config} {
		if err := s.repair(ctx, blob); err != nil {
			return false, err
		}
	}
	if complete, err := s.complete(ctx, image); complete || err != nil {
		return false, err
	}
	log.G(ctx).Infof("importing baked image %s", image.name)
	// The lease keeps the parts until the record refers to them.
	ctx, err = s.withLease(ctx)
	if err != nil {
		return false, err
	}
	// The reference is written before the snapshot, so that an existing snapshot is not collected.
	toSnapshot := map[string]string{snapshotReference + s.snapshotterName: image.chainID()}
	if err := s.write(ctx, image.config, toSnapshot); err != nil {
		return false, err
	}
	toConfig := map[string]string{configReference: image.config.descriptor.Digest.String()}
	if err := s.write(ctx, image.manifest, toConfig); err != nil {
		return false, err
	}
	if err := s.unpack(ctx, image); err != nil {
		return false, err
	}
	if err := s.record(ctx, image); err != nil {
		return false, err
	}
	return true, nil
}

// complete returns true if an image needs no work. It only reads, so that a boot from a disk that
// already has the images writes nothing.
func (s stores) complete(ctx context.Context, image image) (bool, error) {
	record, err := s.images.Get(ctx, image.name)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	if record.Target.Digest != image.manifest.descriptor.Digest || !contains(record.Labels, recordLabels) {
		return false, nil
	}
	for _, blob := range []blob{image.manifest, image.config} {
		if _, err := s.content.Info(ctx, blob.descriptor.Digest); err != nil {
			return false, ignoreNotFound(err)
		}
	}
	if _, err := s.snapshotter.Stat(ctx, image.chainID()); err != nil {
		return false, ignoreNotFound(err)
	}
	return true, nil
}

// repair writes a blob again whose record exists, but whose file is damaged, cut short or missing, for
// example after a power cut. The record and its labels stay, because the bytes belong to its digest.
//
// Snapshots are not checked: nothing on the disk tells what their files must hold, and reading all of
// them would take longer than unpacking.
func (s stores) repair(ctx context.Context, blob blob) error {
	if _, err := s.content.Info(ctx, blob.descriptor.Digest); err != nil {
		return ignoreNotFound(err)
	}
	stored, err := content.ReadBlob(ctx, s.content, blob.descriptor)
	if err == nil && bytes.Equal(stored, blob.bytes) {
		return nil
	}
	log.G(ctx).WithError(err).Warnf("blob %s in the content store is damaged, writing it again", blob.descriptor.Digest)
	if err := ignoreNotFound(s.files.Delete(ctx, blob.descriptor.Digest)); err != nil {
		return fmt.Errorf("cannot remove the damaged %s: %w", blob.descriptor.Digest, err)
	}
	reference := "kiln-repair-" + blob.descriptor.Digest.String()
	if err := content.WriteBlob(ctx, s.files, reference, bytes.NewReader(blob.bytes), blob.descriptor); err != nil {
		return fmt.Errorf("cannot repair %s: %w", blob.descriptor.Digest, err)
	}
	return nil
}

// write stores a blob with these labels in the content store, unless it is there already.
func (s stores) write(ctx context.Context, blob blob, labels map[string]string) error {
	reference := "kiln-baked-" + blob.descriptor.Digest.String()
	err := content.WriteBlob(ctx, s.content, reference, bytes.NewReader(blob.bytes),
		blob.descriptor, content.WithLabels(labels))
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", blob.descriptor.Digest, err)
	}
	for key, value := range labels {
		if err := s.label(ctx, blob, key, value); err != nil {
			return err
		}
	}
	return nil
}

// label sets a label of a blob in the content store, unless it is set already.
func (s stores) label(ctx context.Context, blob blob, key, value string) error {
	info, err := s.content.Info(ctx, blob.descriptor.Digest)
	if err != nil {
		return fmt.Errorf("cannot read the labels of %s: %w", blob.descriptor.Digest, err)
	}
	if info.Labels[key] == value {
		return nil
	}
	info = content.Info{Digest: blob.descriptor.Digest, Labels: map[string]string{key: value}}
	if _, err := s.content.Update(ctx, info, "labels."+key); err != nil {
		return fmt.Errorf("cannot label %s: %w", blob.descriptor.Digest, err)
	}
	return nil
}

// unpack makes the missing snapshots. A layer whose digest differs from the one in the configuration is
// never committed.
func (s stores) unpack(ctx context.Context, image image) error {
	var chain []digest.Digest
	for _, layer := range image.layers {
		// The commit of a snapshot is durable at once, but its files are not: after a power cut
		// they could be empty although they count as unpacked. In memory the sync costs nothing.
		durable := []diff.ApplyOpt{diff.WithSyncFs(true)}
		if _, err := rootfs.ApplyLayerWithOpts(ctx, layer, chain, s.snapshotter, s.applier, nil, durable); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", layer.Blob.Digest, err)
		}
		chain = append(chain, layer.Diff.Digest)
	}
	return nil
}

// record creates or replaces the image's record.
func (s stores) record(ctx context.Context, image image) error {
	record := images.Image{
		Name:   image.name,
		Target: image.manifest.descriptor,
		Labels: maps.Clone(recordLabels),
	}
	_, err := s.images.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.images.Update(ctx, record, "target", "labels")
	}
	if err != nil {
		return fmt.Errorf("cannot write the record: %w", err)
	}
	return nil
}

// removeOthers removes and counts our records whose digest is not the wanted one.
func (s stores) removeOthers(ctx context.Context, wanted map[string]digest.Digest) (int, error) {
	records, err := s.images.List(ctx, fmt.Sprintf("labels.%q==true", Label))
	if err != nil {
		return 0, fmt.Errorf("cannot list the baked images: %w", err)
	}
	removed := 0
	for _, record := range records {
		if wanted[record.Name] == record.Target.Digest {
			continue
		}
		if err := s.images.Delete(ctx, record.Name); err != nil {
			return removed, fmt.Errorf("cannot remove image %s: %w", record.Name, err)
		}
		removed++
	}
	return removed, nil
}

// withLease returns a context under our lease. It takes over the lease of an interrupted import.
func (s stores) withLease(ctx context.Context) (context.Context, error) {
	_, err := s.leases.Create(ctx, leases.WithID(leaseID))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return nil, fmt.Errorf("cannot create lease %s: %w", leaseID, err)
	}
	return leases.WithLease(ctx, leaseID), nil
}

// dropLease deletes our lease. An import that had nothing to do has no lease.
func (s stores) dropLease(ctx context.Context) error {
	if err := ignoreNotFound(s.leases.Delete(ctx, leases.Lease{ID: leaseID})); err != nil {
		return fmt.Errorf("cannot delete lease %s: %w", leaseID, err)
	}
	return nil
}

// contains returns true if whole contains all entries of part.
func contains(whole, part map[string]string) bool {
	for key, value := range part {
		if whole[key] != value {
			return false
		}
	}
	return true
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
