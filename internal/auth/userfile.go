package auth

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/bandsox/bandsox/internal/wire"
)

const credentialsFile = ".bandsox/credentials"

// owner is the user whose credentials these are: with sudo, who typed it.
type owner struct {
	home     string
	uid, gid int // -1: our own
}

func currentOwner() (owner, error) {
	if name := os.Getenv("SUDO_USER"); name != "" && os.Geteuid() == 0 {
		u, err := user.Lookup(name)
		if err != nil {
			return owner{}, wire.Errorf(wire.NotFound, "finding the home of %s: %w", name, err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		return owner{u.HomeDir, uid, gid}, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return owner{}, wire.Errorf(wire.Unavailable, "finding your home: %w", err).WithHint("set HOME")
	}
	return owner{home, -1, -1}, nil
}

// CredentialsPath is where the command line keeps its key.
func CredentialsPath() (string, error) {
	o, err := currentOwner()
	return filepath.Join(o.home, credentialsFile), err
}

// LoadKey returns the key that SaveKey saved, "" if there is none.
func LoadKey() (string, error) {
	fields, _, err := loadCredentials()
	if err != nil {
		return "", err
	}
	var key string
	if raw, ok := fields["api_key"]; ok {
		if err := json.Unmarshal(raw, &key); err != nil {
			return "", badCredentials(err)
		}
	}
	return key, nil
}

func loadCredentials() (map[string]json.RawMessage, owner, error) {
	o, err := currentOwner()
	if err != nil {
		return nil, o, err
	}
	f, err := os.OpenInRoot(o.home, credentialsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, o, nil
	}
	if err != nil {
		return nil, o, badCredentials(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, o, badCredentials(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, o, badCredentials(err)
	}
	return fields, o, nil
}

func badCredentials(err error) error {
	return wire.Errorf(wire.Invalid, "~/%s: %w", credentialsFile, err).WithHint("mend it, or remove it: rm ~/%s", credentialsFile)
}

// SaveKey saves a key for the command line of the user, readable for nobody
// else, beside what else their file holds. Root may write here for a user who
// has made links of their own: none leads out of the user's home.
func SaveKey(key string) (path string, err error) {
	fields, o, err := loadCredentials()
	if err != nil {
		return "", err
	}
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	if fields["api_key"], err = json.Marshal(key); err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(fields, "", "  ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.home, credentialsFile)
	return path, failure("writing", path, o.write(append(b, '\n')))
}

func (o owner) write(b []byte) error {
	root, err := os.OpenRoot(o.home)
	if err != nil {
		return err
	}
	defer root.Close()
	dir := filepath.Dir(credentialsFile)
	switch err := root.Mkdir(dir, 0o700); {
	case err == nil && o.uid >= 0:
		if err := root.Lchown(dir, o.uid, o.gid); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrExist):
		return err
	}
	tmp := credentialsFile + "." + secret(4)
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if o.uid >= 0 {
		err = errors.Join(err, f.Chown(o.uid, o.gid))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = root.Rename(tmp, credentialsFile)
	}
	if err != nil {
		_ = root.Remove(tmp)
	}
	return err
}
