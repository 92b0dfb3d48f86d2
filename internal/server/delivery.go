package server

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// How an event is sent: how long one attempt may take, the pauses between them
// and for how long it is tried.
const (
	deliveryTimeout = 10 * time.Second
	firstPause      = time.Second
	longestPause    = 5 * time.Minute
	deliveryTries   = 24 * time.Hour
	// deliveryGrace is how long an attempt that is under way goes on when the
	// server ends: one that is cut off has most often been taken, and comes twice.
	deliveryGrace = 5 * time.Second
)

// send sends one event until it is taken or ctx ends, which is its error. It
// gives up, and says so, after a day.
func (h *webhooks) send(ctx context.Context, w *webhook, e bandsox.Event) (dropped bool, err error) {
	body := api.JSON(e)
	wait := firstPause
	for began := time.Now(); ; {
		err := h.post(ctx, w, e, body)
		if err == nil {
			return false, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		h.mu.Lock()
		w.Failures++
		w.Error = err.Error()
		h.mu.Unlock()
		if time.Since(began) > deliveryTries {
			return true, nil
		}
		pause(ctx, wait)
		wait = min(2*wait, longestPause)
	}
}

// post is one attempt. It isn't begun when ctx has ended.
func (h *webhooks) post(ctx context.Context, w *webhook, e bandsox.Event, body []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	attempt, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		pause(attempt, deliveryGrace)
		cancel()
	})()
	req, err := http.NewRequestWithContext(attempt, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bandsox")
	req.Header.Set("Bandsox-Event", e.Type)
	req.Header.Set("Bandsox-Delivery", fmt.Sprintf("%s-%d", w.ID, e.ID))
	req.Header.Set("Bandsox-Signature", signature(w.Secret, time.Now(), body))
	resp, err := h.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}

// signature proves to who knows the secret that body is ours, and how old it is.
func signature(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
