package baked

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testLayout is a layout on disk with the expected digests and texts of its images.
type testLayout struct {
	layout  layout
	digests map[string]digest.Digest
	texts   map[string]string
}

// writeLayout makes one image per name, with one uncompressed layer that holds the text as /program.
func writeLayout(t *testing.T, texts map[string]string) testLayout {
	t.Helper()
	made := testLayout{layout: layout(t.TempDir()), digests: map[string]digest.Digest{}, texts: texts}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	names := make([]string, 0, len(texts))
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		layer := made.write(t, ocispec.MediaTypeImageLayer, tarWith(t, texts[name]))
		config := made.writeJSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
		})
		manifest := made.writeJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageManifest,
			Config:    config,
			Layers:    []ocispec.Descriptor{layer},
		})
		made.digests[name] = manifest.Digest
		manifest.Annotations = map[string]string{images.AnnotationImageName: name}
		index.Manifests = append(index.Manifests, manifest)
	}
	document, err := json.Marshal(index)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(string(made.layout), "index.json"), document, 0o600))
	return made
}

func (l testLayout) write(t *testing.T, mediaType string, bytes []byte) ocispec.Descriptor {
	t.Helper()
	descriptor := ocispec.Descriptor{
		MediaType: mediaType,
		Digest:    digest.FromBytes(bytes),
		Size:      int64(len(bytes)),
	}
	path, err := l.layout.path(descriptor)
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, bytes, 0o600))
	return descriptor
}

func (l testLayout) writeJSON(t *testing.T, mediaType string, value any) ocispec.Descriptor {
	t.Helper()
	document, err := json.Marshal(value)
	must(t, err)
	return l.write(t, mediaType, document)
}

// descriptor returns an image's entry in the index.
func (l testLayout) descriptor(t *testing.T, name string) ocispec.Descriptor {
	t.Helper()
	index, err := l.layout.index()
	must(t, err)
	for _, descriptor := range index {
		if descriptor.Annotations[images.AnnotationImageName] == name {
			return descriptor
		}
	}
	t.Fatalf("no image %s", name)
	return ocispec.Descriptor{}
}

// damage changes one byte of an image's manifest, config or layer, and returns the part's digest.
func (l testLayout) damage(t *testing.T, name, part string) digest.Digest {
	t.Helper()
	image, err := l.layout.image(l.descriptor(t, name))
	must(t, err)
	descriptor := map[string]ocispec.Descriptor{
		"manifest": image.manifest.descriptor,
		"config":   image.config.descriptor,
		"layer":    image.layers[0].Blob,
	}[part]
	path, err := l.layout.path(descriptor)
	must(t, err)
	stored, err := os.ReadFile(path)
	must(t, err)
	place := bytes.Index(stored, []byte("damaged"))
	if place < 0 {
		place = len(stored) / 2
	}
	stored[place] ^= 1
	must(t, os.WriteFile(path, stored, 0o600))
	return descriptor.Digest
}

func tarWith(t *testing.T, text string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	must(t, writer.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(text))}))
	_, err := writer.Write([]byte(text))
	must(t, err)
	must(t, writer.Close())
	return buffer.Bytes()
}

func countFiles(t *testing.T, folder string) int {
	t.Helper()
	count := 0
	must(t, filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			count++
		}
		return err
	}))
	return count
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADigestThatLeadsOutOfTheLayoutIsRefused(t *testing.T) {
	for _, bad := range []digest.Digest{"", "sha256:../../etc/passwd", "../..:" + digest.Digest(strings.Repeat("a", 64))} {
		if path, err := layout("/images").path(ocispec.Descriptor{Digest: bad}); err == nil {
			t.Errorf("%q leads to %s", bad, path)
		}
	}
}

func TestAManifestWithoutANameIsRefused(t *testing.T) {
	folder := t.TempDir()
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json"}]}`
	must(t, os.WriteFile(filepath.Join(folder, "index.json"), []byte(index), 0o600))
	if _, err := layout(folder).index(); err == nil || !strings.Contains(err.Error(), images.AnnotationImageName) {
		t.Errorf("error is %v", err)
	}
}

func TestADocumentAboveTheLimitIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.json")
	must(t, os.WriteFile(path, make([]byte, documentBytesMax+1), 0o600))
	if _, err := readDocument(path); err == nil {
		t.Error("the document was read")
	}
}
