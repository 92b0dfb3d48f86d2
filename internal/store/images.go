package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// ImageRef says which digest a name stood for when it was pulled.
type ImageRef struct {
	Ref    string
	Digest string
	Pulled time.Time
}

// TagImage makes ref stand for digest.
func (s *Store) TagImage(ctx context.Context, ref, digest string) error {
	_, err := s.db.ExecContext(ctx,
		`INSERT INTO images (ref, digest, pulled) VALUES (?,?,?) ON CONFLICT(ref) DO UPDATE SET digest=excluded.digest, pulled=excluded.pulled`,
		ref, digest, time.Now().UnixNano())
	return imageError("recording", ref, err)
}

// UntagImage forgets ref.
func (s *Store) UntagImage(ctx context.Context, ref string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM images WHERE ref=?`, ref)
	return imageError("forgetting", ref, err)
}

// Image returns the digest that ref stands for; ok is false when it is unknown.
func (s *Store) Image(ctx context.Context, ref string) (digest string, ok bool, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT digest FROM images WHERE ref=?`, ref).Scan(&digest)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return digest, err == nil, imageError("reading", ref, err)
}

// Images returns every name.
func (s *Store) Images(ctx context.Context) ([]ImageRef, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT ref, digest, pulled FROM images ORDER BY ref`)
	if err != nil {
		return nil, imageError("listing", "", err)
	}
	defer rows.Close()
	var list []ImageRef
	for rows.Next() {
		var r ImageRef
		var pulled int64
		if err := rows.Scan(&r.Ref, &r.Digest, &pulled); err != nil {
			return nil, imageError("listing", "", err)
		}
		r.Pulled = time.Unix(0, pulled)
		list = append(list, r)
	}
	return list, imageError("listing", "", rows.Err())
}

func imageError(doing, ref string, err error) error {
	if err == nil {
		return nil
	}
	return wire.Errorf(wire.Internal, "%s image %q: %w", doing, ref, err)
}
