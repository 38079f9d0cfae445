// Package baked registers the images in the node's image file before CRI starts.
//
// The images lie in an OCI image layout on the read-only root (image-spec v1.1, image-layout.md).
// Manifests and configurations are copied into containerd's content store, because CRI reads them
// there. A layer is unpacked from the layout straight into its snapshot, so its bytes exist only once.
// CRI needs no layer blobs (containerd's option `discard_unpacked_layers` drops them as well), and a
// pulled image that shares a layer finds the layer's snapshot.
//
// The index decides: after an import each of our records has the digest that the index names, even if
// /var holds the records of another image file, or of an import that was cut off by a power failure.
package baked

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// documentBytesMax limits an index, a manifest or a configuration; registries use the same limit.
const documentBytesMax = 4 << 20

// layout is a folder with an OCI image layout. It is the content.Provider of the layers.
type layout string

// blob is a document whose digest was checked.
type blob struct {
	descriptor ocispec.Descriptor
	bytes      []byte
}

// image is one image of a layout. Its documents were checked; layers are checked while unpacking.
type image struct {
	name     string
	manifest blob
	config   blob
	layers   []rootfs.Layer
}

// chainID returns the name of the snapshot of all layers (image-spec, config.md).
func (i image) chainID() string {
	diffs := make([]digest.Digest, len(i.layers))
	for n, layer := range i.layers {
		diffs[n] = layer.Diff.Digest
	}
	return identity.ChainID(diffs).String()
}

// index reads the descriptors of the manifests; images.AnnotationImageName annotates the image's name.
func (l layout) index() ([]ocispec.Descriptor, error) {
	bytes, err := readDocument(filepath.Join(string(l), ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(bytes, &index); err != nil {
		return nil, fmt.Errorf("cannot parse %s: %w", ocispec.ImageIndexFile, err)
	}
	for _, descriptor := range index.Manifests {
		if descriptor.Annotations[images.AnnotationImageName] == "" {
			return nil, fmt.Errorf("manifest %s in %s has no annotation %s",
				descriptor.Digest, ocispec.ImageIndexFile, images.AnnotationImageName)
		}
	}
	return index.Manifests, nil
}

// image reads an image by the descriptor of its manifest.
func (l layout) image(descriptor ocispec.Descriptor) (image, error) {
	name := descriptor.Annotations[images.AnnotationImageName]
	if !images.IsManifestType(descriptor.MediaType) {
		return image{}, fmt.Errorf("%s has the media type %q and is not a manifest", descriptor.Digest, descriptor.MediaType)
	}
	// The name belongs to the record and not to its target, so that a new tag does not change the image.
	descriptor.Annotations = nil
	var manifest ocispec.Manifest
	manifestBlob, err := l.document(descriptor, &manifest)
	if err != nil {
		return image{}, fmt.Errorf("cannot read the manifest: %w", err)
	}
	var config ocispec.Image
	configBlob, err := l.document(manifest.Config, &config)
	if err != nil {
		return image{}, fmt.Errorf("cannot read the configuration: %w", err)
	}
	layers, err := pairLayers(manifest.Layers, config.RootFS.DiffIDs)
	if err != nil {
		return image{}, err
	}
	return image{name: name, manifest: manifestBlob, config: configBlob, layers: layers}, nil
}

// pairLayers joins the manifest's blobs with the configuration's digests of their uncompressed bytes.
func pairLayers(blobs []ocispec.Descriptor, diffs []digest.Digest) ([]rootfs.Layer, error) {
	if len(blobs) == 0 || len(blobs) != len(diffs) {
		return nil, fmt.Errorf("the manifest has %d layers, but the configuration lists %d", len(blobs), len(diffs))
	}
	layers := make([]rootfs.Layer, len(blobs))
	for n, blob := range blobs {
		if !images.IsLayerType(blob.MediaType) {
			return nil, fmt.Errorf("layer %s has the unsupported media type %q", blob.Digest, blob.MediaType)
		}
		diff := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffs[n]}
		layers[n] = rootfs.Layer{Diff: diff, Blob: blob}
	}
	return layers, nil
}

// document reads a JSON blob into value, and refuses it if its digest is not the descriptor's.
func (l layout) document(descriptor ocispec.Descriptor, value any) (blob, error) {
	path, err := l.path(descriptor)
	if err != nil {
		return blob{}, err
	}
	bytes, err := readDocument(path)
	if err != nil {
		return blob{}, err
	}
	if found := descriptor.Digest.Algorithm().FromBytes(bytes); found != descriptor.Digest {
		return blob{}, fmt.Errorf("%s is damaged: its digest is %s", descriptor.Digest, found)
	}
	if err := json.Unmarshal(bytes, value); err != nil {
		return blob{}, fmt.Errorf("cannot parse %s: %w", descriptor.Digest, err)
	}
	return blob{descriptor: descriptor, bytes: bytes}, nil
}

// ReaderAt opens a blob. The applier checks the digest, because it hashes the bytes while it unpacks.
func (l layout) ReaderAt(_ context.Context, descriptor ocispec.Descriptor) (content.ReaderAt, error) {
	path, err := l.path(descriptor)
	if err != nil {
		return nil, err
	}
	reader, err := local.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", descriptor.Digest, err)
	}
	if reader.Size() != descriptor.Size {
		return nil, errors.Join(
			fmt.Errorf("%s is damaged: it has %d bytes instead of %d", descriptor.Digest, reader.Size(), descriptor.Size),
			reader.Close())
	}
	return reader, nil
}

// path returns a blob's path. It refuses an invalid digest, which could lead out of the layout.
func (l layout) path(descriptor ocispec.Descriptor) (string, error) {
	if err := descriptor.Digest.Validate(); err != nil {
		return "", fmt.Errorf("invalid digest %q: %w", descriptor.Digest, err)
	}
	return filepath.Join(string(l), ocispec.ImageBlobsDir,
		descriptor.Digest.Algorithm().String(), descriptor.Digest.Encoded()), nil
}

// readDocument reads a file of at most documentBytesMax bytes.
func readDocument(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	bytes, err := io.ReadAll(io.LimitReader(file, documentBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(bytes) > documentBytesMax {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, documentBytesMax)
	}
	return bytes, nil
}
