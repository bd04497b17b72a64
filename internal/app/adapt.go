package app

import (
	"context"
	"os"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
	"github.com/belay-cd/belay/internal/store"
)

// storePort gives the deliveries the store in their own words.
type storePort struct {
	*store.Store
	judges *keeper
}

// Events lists stored events that match.
func (s storePort) Events(ctx context.Context, after int64, f delivery.EventFilter, limit int) ([]domain.Event, error) {
	return s.Store.Events(ctx, after, store.EventFilter{App: f.App, Delivery: f.Delivery, Types: f.Types}, limit)
}

// SaveRollout keeps the ticks of a rollout that goes back: they are what the decision rests on.
func (s storePort) SaveRollout(ctx context.Context, r domain.RolloutRecord) error {
	if r.State == domain.RolloutReverting {
		if err := s.MarkDecisive(ctx, r.ID); err != nil {
			return err
		}
	}
	return s.Store.SaveRollout(ctx, r)
}

// FinishRollout ends the work of the rollout's judge, too.
func (s storePort) FinishRollout(ctx context.Context, r domain.RolloutRecord, slot domain.Slot) error {
	err := s.Store.FinishRollout(ctx, r, slot)
	if err == nil {
		s.judges.jury.Leave(r.ID)
	}
	return err
}

// unpacker keeps local, read-only copies of artifacts.
type unpacker struct {
	store    *registry.Store
	releases string
}

// Unpack returns the folder of an artifact; what is there already is not asked for again.
func (u unpacker) Unpack(ctx context.Context, digest string) (string, error) {
	dir := registry.Folder(u.releases, digest)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, u.store.Unpack(ctx, digest, dir)
}

// attachments keeps evidence beside the artifacts.
type attachments struct{ store *registry.Store }

// Verify reads an artifact as a whole.
func (a attachments) Verify(ctx context.Context, digest string) error {
	return a.store.Verify(ctx, digest)
}

// Attach stores a document beside an artifact.
func (a attachments) Attach(ctx context.Context, app, digest, mediaType string, document []byte) error {
	return a.store.Attach(ctx, app, digest, mediaType, document)
}

// Attached lists the documents beside an artifact.
func (a attachments) Attached(ctx context.Context, app, digest, mediaType string) ([][]byte, error) {
	return a.store.Attached(ctx, app, digest, mediaType)
}
