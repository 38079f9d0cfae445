package cni

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var both = Attachment{Subnets: []string{"10.244.1.0/24", "fd00:1::/64"}, MTU: 1450}

func TestEachFamilyHasItsOwnRange(t *testing.T) {
	text, err := Render(both)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Plugins []struct {
			Type string
			MTU  int
			IPAM struct{ Ranges [][]map[string]string }
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	bridge := list.Plugins[0]
	if bridge.Type != "bridge" || bridge.MTU != 1450 {
		t.Fatalf("%+v", bridge)
	}
	for i, subnet := range both.Subnets {
		if got := bridge.IPAM.Ranges[i]; len(got) != 1 || got[0]["subnet"] != subnet {
			t.Errorf("range %d is %v, not %s", i, got, subnet)
		}
	}
}

func TestABadSubnetIsRefused(t *testing.T) {
	for _, subnets := range [][]string{nil, {""}, {"10.244.1.0"}, {"10.244.1.0/33"}} {
		if text, err := Render(Attachment{Subnets: subnets}); err == nil {
			t.Errorf("%q gives %s", subnets, text)
		}
	}
}

func TestAnUnchangedFileIsNotWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "10-flannel.conflist")
	number := func() os.FileInfo {
		t.Helper()
		if err := Write(path, both); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := number()
	if !os.SameFile(first, number()) {
		t.Error("the same content replaces the file")
	}
	if first.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", first.Mode())
	}
	both := Attachment{Subnets: both.Subnets[:1], MTU: 1400}
	if err := Write(path, both); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "1400") {
		t.Errorf("%v: %s", err, text)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v: %v", err, left)
	}
}

func TestAMissingFolderIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "10-flannel.conflist")
	if err := Write(path, both); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}
