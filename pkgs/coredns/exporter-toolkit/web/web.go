// Package web stands in for the part of Prometheus' exporter-toolkit that CoreDNS' plugin `prometheus`
// calls.
//
// Upstream's package adds TLS and passwords to the port with the metrics, and with them a page template,
// because of which Go's linker keeps every method of every type: 55 MB instead of 34. Without them the
// port is as it is by default, in plain HTTP.
package web

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
)

// FlagConfig has the fields that CoreDNS sets.
type FlagConfig struct {
	WebListenAddresses *[]string
	WebSystemdSocket   *bool
	WebConfigFile      *string
}

var errTLS = errors.New("cannot serve metrics with TLS: this program is built without it; remove `tls` from the plugin `prometheus`")

// Validate refuses every file, so that a Corefile with `tls` fails at the start.
func Validate(_ string) error { return errTLS }

// Serve refuses to serve, because it is called for a port with TLS only.
func Serve(_ net.Listener, _ *http.Server, _ *FlagConfig, _ *slog.Logger) error { return errTLS }
