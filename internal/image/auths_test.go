package image

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestRegistryAuths: a build is sent what docker build would send.
func TestRegistryAuths(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	if got := registryAuths(); got != "" {
		t.Errorf("of no configuration: %q", got)
	}
	secret := base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	config := `{"auths": {"registry.example": {"auth": "` + secret + `"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.URLEncoding.DecodeString(registryAuths())
	if err != nil {
		t.Fatal(err)
	}
	var auths map[string]struct{ Username, Password string }
	if err := json.Unmarshal(raw, &auths); err != nil || auths["registry.example"].Username != "ann" || auths["registry.example"].Password != "secret" {
		t.Errorf("%v: %s", err, raw)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := registryAuths(); got != "" { // said in the log; the build may not need any
		t.Errorf("of a broken one: %q", got)
	}
}
