package image

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"

	"github.com/docker/cli/cli/config"
)

// registryAuths is what docker build sends its daemon, for base images that are
// private: every credential of docker's configuration, which the daemon chooses
// from. "" if there is none: the build may not need any.
func registryAuths() string {
	cf, err := config.Load(os.Getenv("DOCKER_CONFIG"))
	if err != nil {
		slog.Warn("credentials for the build: reading docker's configuration", "err", err)
		return ""
	}
	auths, err := cf.GetAllCredentials()
	if err != nil { // a credential helper that isn't there, say
		slog.Warn("credentials for the build", "err", err)
	}
	if len(auths) == 0 {
		return ""
	}
	b, err := json.Marshal(auths)
	if err != nil {
		return ""
	}
	return base64.URLEncoding.EncodeToString(b)
}
