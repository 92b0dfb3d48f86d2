package auth

import (
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestCheckListen(t *testing.T) {
	const keys, insecure, tls = 1, 2, 4
	for _, c := range []struct {
		addr string
		with int
		want string // ok, warn, or the class of the error
	}{
		{"127.0.0.1:8000", 0, "ok"},
		{"127.8.9.10:8000", 0, "ok"},
		{"[::1]:8000", 0, "ok"},
		{"[::ffff:127.0.0.1]:8000", 0, "ok"},
		{"localhost:8000", 0, "ok"},
		{"LocalHost:8000", 0, "ok"},
		{"unix:/run/bandsox.sock", 0, "ok"},
		{"0.0.0.0:8000", 0, "denied"},
		{":8000", 0, "denied"},
		{"[::]:8000", 0, "denied"},
		{"192.0.2.1:8000", 0, "denied"},
		{"localhost.example.com:8000", 0, "denied"},
		{"box:8000", 0, "denied"},
		{"box:8000", tls, "denied"},
		{"0.0.0.0:8000", insecure, "warn"},
		{"0.0.0.0:8000", insecure | tls, "warn"},
		{"0.0.0.0:8000", keys, "warn"},
		{"0.0.0.0:8000", keys | insecure, "warn"},
		{"0.0.0.0:8000", keys | tls, "ok"},
		{"127.0.0.1:8000", keys, "ok"},
		{"127.0.0.1:8000", insecure, "ok"},
		{"0.0.0.0", keys, "invalid"},
		{"", 0, "invalid"},
	} {
		warning, err := CheckListen(c.addr, c.with&keys != 0, c.with&insecure != 0, c.with&tls != 0)
		got := "ok"
		switch {
		case err != nil:
			got = string(wire.CodeOf(err))
		case warning != "":
			got = "warn"
		}
		if got != c.want {
			t.Errorf("listening on %q with %03b: %s, want %s (%v)", c.addr, c.with, got, c.want, err)
		}
	}
	for _, keys := range []bool{false, true} {
		if _, err := CheckListen(DefaultHost(keys)+":8000", keys, false, false); err != nil {
			t.Errorf("the default with keys %v: %v", keys, err)
		}
	}
}

func TestHostAllowed(t *testing.T) {
	allowed := []string{"box.example.com", "*.apps.example.com"}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8000": true, "LOCALHOST.:8000": true, "8080-abc.localhost:8000": true,
		"127.0.0.1:8000": true, "[::1]:8000": true, "::1": true, "192.0.2.7:8000": true,
		"box.example.com": true, "BOX.example.com:443": true, "box.example.com.": true,
		"80-x.apps.example.com": true, "apps.example.com": false, "evilapps.example.com": false,
		"": false, ":8000": false, "evil.com": false, "localhost.evil.com": false, "notlocalhost": false,
		"box.example.com.evil.com": false, "127.0.0.1.evil.com": false, "2130706433": false, "0x7f.1": false,
	} {
		if got := hostAllowed(host, allowed); got != want {
			t.Errorf("host %q: %v, want %v", host, got, want)
		}
	}
}
