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
	// Label marks the records that this package owns: it changes and removes no other.
	Label = "kiln.dev/baked"

	// leaseID is fixed, so that the next boot finds the lease of an import that was cut off.
	leaseID = "kiln-baked"

	// References that containerd's garbage collector follows (docs/garbage-collection.md).
	configReference   = "containerd.io/gc.ref.content.config"
	snapshotReference = "containerd.io/gc.ref.snapshot."
)

// recordLabels are those of each of our records. With the first two CRI takes the image as its own
// and as pinned: kubelet's image garbage collection leaves it alone.
var recordLabels = map[string]string{
	"io.cri-containerd.image":  "managed",
	"io.cri-containerd.pinned": "pinned",
	Label:                      "true",
}

// stores are the parts of containerd that an image lives in.
type stores struct {
	content     content.Store
	images      images.Store
	leases      leases.Manager
	snapshotter snapshots.Snapshotter
	// snapshotterName is part of the label that ties an image to its snapshot.
	snapshotterName string
	// applier unpacks blobs of the layout, not of the content store.
	applier diff.Applier
}

// report counts what an import did.
type report struct {
	kept, imported, removed int
}

// register makes the records of ours equal to the layout's index. The context names the namespace.
//
// A damaged image does not stop the others: its error is joined to those returned, and its record
// is removed if it leads to another digest, because to run what the index does not name is worse
// than not to run it.
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
	// Records hold all that is wanted by now; what else the lease held is garbage.
	if err = to.dropLease(ctx); err != nil {
		failures = append(failures, err)
	}
	return done, errors.Join(failures...)
}

// registerOne returns true when there was something to do.
func (s stores) registerOne(ctx context.Context, from layout, descriptor ocispec.Descriptor) (bool, error) {
	image, err := from.image(descriptor)
	if err != nil {
		return false, err
	}
	if complete, err := s.complete(ctx, image); complete || err != nil {
		return false, err
	}
	log.G(ctx).Infof("importing baked image %s", image.name)
	// The lease keeps the parts until the record does.
	ctx, err = s.withLease(ctx)
	if err != nil {
		return false, err
	}
	// The reference is there before the snapshot, so that one which is there already stays.
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

// complete says whether nothing is left to do for an image: only reads, so that a boot on a disk
// that has the images already costs no write.
func (s stores) complete(ctx context.Context, image image) (bool, error) {
	record, err := s.images.Get(ctx, image.name)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	if record.Target.Digest != image.manifest.descriptor.Digest || !contains(record.Labels, recordLabels) {
		return false, nil
	}
	for _, blob := range []blob{image.manifest, image.config} {
		if stored, err := content.ReadBlob(ctx, s.content, blob.descriptor); err != nil {
			return false, ignoreNotFound(err)
		} else if !bytes.Equal(stored, blob.bytes) {
			return false, fmt.Errorf("%s is damaged in the content store", blob.descriptor.Digest)
		}
	}
	if _, err := s.snapshotter.Stat(ctx, image.chainID()); err != nil {
		return false, ignoreNotFound(err)
	}
	return true, nil
}

// write puts a blob with these labels into the content store, unless both are there.
func (s stores) write(ctx context.Context, blob blob, labels map[string]string) error {
	reference := "kiln-baked-" + blob.descriptor.Digest.String()
	err := content.WriteBlob(ctx, s.content, reference, bytes.NewReader(blob.bytes),
		blob.descriptor, content.WithLabels(labels))
	if err != nil {
		return fmt.Errorf("write %s: %w", blob.descriptor.Digest, err)
	}
	for key, value := range labels {
		if err := s.label(ctx, blob, key, value); err != nil {
			return err
		}
	}
	return nil
}

// label sets one label of a blob in the content store, unless it is set.
func (s stores) label(ctx context.Context, blob blob, key, value string) error {
	info, err := s.content.Info(ctx, blob.descriptor.Digest)
	if err != nil {
		return fmt.Errorf("read labels of %s: %w", blob.descriptor.Digest, err)
	}
	if info.Labels[key] == value {
		return nil
	}
	info = content.Info{Digest: blob.descriptor.Digest, Labels: map[string]string{key: value}}
	if _, err := s.content.Update(ctx, info, "labels."+key); err != nil {
		return fmt.Errorf("label %s: %w", blob.descriptor.Digest, err)
	}
	return nil
}

// unpack makes the snapshots that are missing. A layer whose bytes have another digest than the
// configuration says is never committed.
func (s stores) unpack(ctx context.Context, image image) error {
	var chain []digest.Digest
	for _, layer := range image.layers {
		// A snapshot's commit is durable at once, its files are not: after a power cut they
		// could be empty and count as unpacked. In memory the sync costs nothing.
		durable := []diff.ApplyOpt{diff.WithSyncFs(true)}
		if _, err := rootfs.ApplyLayerWithOpts(ctx, layer, chain, s.snapshotter, s.applier, nil, durable); err != nil {
			return fmt.Errorf("unpack %s: %w", layer.Blob.Digest, err)
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
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}

// removeOthers removes the records of ours whose digest is not the wanted one, and counts them.
func (s stores) removeOthers(ctx context.Context, wanted map[string]digest.Digest) (int, error) {
	records, err := s.images.List(ctx, fmt.Sprintf("labels.%q==true", Label))
	if err != nil {
		return 0, fmt.Errorf("list the baked images: %w", err)
	}
	removed := 0
	for _, record := range records {
		if wanted[record.Name] == record.Target.Digest {
			continue
		}
		if err := s.images.Delete(ctx, record.Name); err != nil {
			return removed, fmt.Errorf("remove image %s: %w", record.Name, err)
		}
		removed++
	}
	return removed, nil
}

// withLease returns a context under our lease. The lease of an import that was cut off is taken over.
func (s stores) withLease(ctx context.Context) (context.Context, error) {
	_, err := s.leases.Create(ctx, leases.WithID(leaseID))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create lease %s: %w", leaseID, err)
	}
	return leases.WithLease(ctx, leaseID), nil
}

// dropLease ends the import's protection. There is no lease when there was nothing to do.
func (s stores) dropLease(ctx context.Context) error {
	if err := ignoreNotFound(s.leases.Delete(ctx, leases.Lease{ID: leaseID})); err != nil {
		return fmt.Errorf("delete lease %s: %w", leaseID, err)
	}
	return nil
}

// contains says whether all of part is in whole.
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
