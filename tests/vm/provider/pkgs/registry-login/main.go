// Command registry-login is an image credential provider: it reads kubelet's question about an image
// from standard input and answers with the user and the password of the image's registry.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

const api = "credentialprovider.kubelet.k8s.io/v1"

type request struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Image      string `json:"image"`
}

type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type response struct {
	APIVersion    string           `json:"apiVersion"`
	Kind          string           `json:"kind"`
	CacheKeyType  string           `json:"cacheKeyType"`
	CacheDuration string           `json:"cacheDuration"`
	Auth          map[string]login `json:"auth"`
}

func main() {
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *version {
		fmt.Println("registry-login 1")
		return
	}
	if err := answer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer() error {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return fmt.Errorf("cannot read the request: %w", err)
	}
	if asked.APIVersion != api || asked.Kind != "CredentialProviderRequest" {
		return fmt.Errorf("cannot answer a %s of %s", asked.Kind, asked.APIVersion)
	}
	registry, _, _ := strings.Cut(asked.Image, "/")
	return json.NewEncoder(os.Stdout).Encode(response{
		APIVersion:    api,
		Kind:          "CredentialProviderResponse",
		CacheKeyType:  "Registry",
		CacheDuration: "10m",
		Auth: map[string]login{
			registry: {os.Getenv("REGISTRY_USER"), os.Getenv("REGISTRY_PASSWORD")},
		},
	})
}
