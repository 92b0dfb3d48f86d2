package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Certificate is what a server shows of itself. Files that are written anew are
// noticed, so that a renewal needs no restart.
type Certificate struct {
	cert, key string

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed [2]time.Time
}

// LoadCertificate reads a certificate chain and its key, in PEM.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{cert: certFile, key: keyFile}
	if _, err := c.get(nil); err != nil {
		return nil, wire.Errorf(wire.Invalid, "TLS certificate: %w", err).
			WithHint("both files must be PEM, and the key that of the certificate")
	}
	return c, nil
}

const (
	selfSignedTime = 825 * 24 * time.Hour // the longest that all browsers take
	renewBefore    = 30 * 24 * time.Hour
)

// SelfSigned returns the certificate for these names and addresses that path
// holds. It makes one where there is none, or only one that is about to expire
// or is for other names; that has another fingerprint.
func SelfSigned(ctx context.Context, path string, hosts []string) (*Certificate, error) {
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return nil, failure("locking", path, err)
	}
	defer unlock()
	if c, err := LoadCertificate(path, path); err == nil && c.good(hosts, time.Now()) {
		return c, nil
	} else if _, statErr := os.Stat(path); err != nil && !errors.Is(statErr, fs.ErrNotExist) {
		return nil, wire.Errorf(wire.Unavailable, "self-signed certificate %s: %w", path, err).WithHint("remove it, and a new one is made: rm %s", path)
	}
	b, err := makeCertificate(hosts, time.Now())
	if err != nil {
		return nil, err
	}
	if err := replace(path, b); err != nil {
		return nil, failure("writing", path, err)
	}
	return LoadCertificate(path, path)
}

// Config is a server's TLS configuration.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// Fingerprint is the SHA-256 of the certificate, as browsers and openssl show it.
func (c *Certificate) Fingerprint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := sha256.Sum256(c.loaded.Certificate[0])
	h := strings.ToUpper(hex.EncodeToString(sum[:]))
	var parts []string
	for i := 0; i < len(h); i += 2 {
		parts = append(parts, h[i:i+2])
	}
	return strings.Join(parts, ":")
}

// get returns the certificate, read again if its files have changed. While they
// are no good, as halfway through a renewal, it is the one from before.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var changed [2]time.Time
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil && c.loaded == nil {
			return nil, err
		}
		if err == nil {
			changed[i] = info.ModTime()
		}
	}
	if c.loaded != nil && changed == c.changed {
		return c.loaded, nil
	}
	loaded, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		c.loaded, c.changed = &loaded, changed
	}
	if c.loaded == nil {
		return nil, err
	}
	return c.loaded, nil
}

func (c *Certificate) good(hosts []string, now time.Time) bool {
	leaf := c.loaded.Leaf
	if leaf == nil || now.After(leaf.NotAfter.Add(-renewBefore)) {
		return false
	}
	for _, h := range hosts {
		h = strings.Replace(h, "*", "any", 1)
		if leaf.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

// makeCertificate makes a certificate and its key, together in one PEM file, so
// that they can't be of two minds.
func makeCertificate(hosts []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "bandsox"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedTime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			t.IPAddresses = append(t.IPAddresses, a.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "certificate for %q: %w", hosts, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = errors.Join(
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return b.Bytes(), err
}
