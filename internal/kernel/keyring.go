package kernel

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/bandsox/bandsox/internal/wire"
)

// keyring is the keys that may sign an archive's index.
type keyring struct{ keys openpgp.EntityList }

// hostKeyrings are where Debian's package of its keys puts them.
var hostKeyrings = []string{
	"/usr/share/keyrings/debian-archive-keyring.gpg",
	"/usr/share/keyrings/debian-archive-keyring.pgp",
	"/etc/apt/trusted.gpg.d/debian-archive-*.gpg",
	"/etc/apt/trusted.gpg.d/debian-archive-*.asc",
}

// readKeyring reads the keyring at path, or the host's.
func readKeyring(path string) (keyring, error) {
	patterns := hostKeyrings
	if path != "" {
		patterns = []string{path}
	}
	var k keyring
	for _, p := range patterns {
		files := []string{p}
		if path == "" {
			files, _ = filepath.Glob(p)
		}
		for _, file := range files {
			keys, err := readKeys(file)
			if err != nil {
				return keyring{}, fail(err, "reading the keyring %q", file)
			}
			k.keys = append(k.keys, keys...)
		}
	}
	if len(k.keys) == 0 {
		return keyring{}, wire.Errorf(wire.NotFound, "no keyring to check signatures with").
			WithHint("install the package debian-archive-keyring")
	}
	return k, nil
}

func readKeys(file string) (openpgp.EntityList, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		return openpgp.ReadArmoredKeyRing(bytes.NewReader(b))
	}
	return openpgp.ReadKeyRing(bytes.NewReader(b))
}

// verify gives the text in a clear-signed message, if it is signed by one of
// the keys. Only that text is trusted: not what is before or after it.
func (k keyring) verify(message []byte) ([]byte, error) {
	block, _ := clearsign.Decode(message)
	if block == nil {
		return nil, wire.Errorf(wire.Denied, "it isn't signed")
	}
	if _, err := block.VerifySignature(k.keys, nil); err != nil {
		return nil, wire.Errorf(wire.Denied, "%w", err).
			WithHint("update the package debian-archive-keyring")
	}
	return bytes.Clone(block.Bytes), nil
}
