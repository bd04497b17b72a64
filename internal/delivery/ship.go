package delivery

import (
	"context"
	"regexp"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// appName guards the folders that are named after apps.
var appName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// Ship proves the commit, stores a new delivery and starts it.
func (s *Service) Ship(ctx context.Context, in Submission) (domain.Delivery, error) {
	if !appName.MatchString(in.App) {
		return domain.Delivery{}, domain.Errorf(domain.Invalid, "app %q: not a name", in.App).WithHint("[a-z][a-z0-9-]*, at most 40")
	}
	commit, err := s.ports.Source.Accept(ctx, in.App, in.Commit, in.Bundle)
	if err != nil {
		return domain.Delivery{}, err
	}
	file, text, err := s.fileAt(ctx, in.App, in.Folder, commit.SHA)
	if err != nil {
		return domain.Delivery{}, err
	}
	people := s.makers(commit, in.By, in.Login)
	external, err := s.admit(ctx, in, file, commit, people)
	if err != nil {
		return domain.Delivery{}, err
	}
	if err := s.ports.Store.EnsureApp(ctx, in.App, commit.Repository+":"+in.Folder); err != nil {
		return domain.Delivery{}, err
	}
	// The file comes first: a delivery that is stored can always begin.
	id := domain.NewID("dly_")
	if err := s.newRun(domain.Delivery{ID: id}).remember(ctx, "file", text); err != nil {
		return domain.Delivery{}, err
	}
	if external != "" {
		if err := s.newRun(domain.Delivery{ID: id}).remember(ctx, externalKey, external); err != nil {
			return domain.Delivery{}, err
		}
	}
	d, created, err := s.ports.Store.CreateDelivery(ctx, domain.Delivery{
		ID: id, App: in.App, Commit: commit.SHA, Subject: commit.Subject, Author: commit.Author, People: people, ShippedBy: in.By, Folder: in.Folder,
		State: domain.Queued, Created: *now(), Stages: newStages(), Loosened: []string{}, Urgent: in.Urgent, From: in.From,
	}, in.Key)
	if err != nil || !created {
		return d, err
	}
	// From here on it exists: whoever asked for it may hang up.
	ctx = context.WithoutCancel(ctx)
	if s.options.URL != "" {
		d.URL = s.options.URL + "/" + d.App + "/" + itoa(d.Number)
		if err := s.ports.Store.SaveDelivery(ctx, d); err != nil { // it is saved again with its first stage
			s.options.Log.Error("save the delivery", "delivery", d.Number, "error", err)
		}
	}
	s.emit(ctx, domain.Event{Type: "delivery.started", App: d.App, Delivery: d.Number, By: in.By,
		Data: submissionData(d)})
	s.launch(s.newRun(d))
	return d, nil
}

// fileAt reads belay.yaml as it is at a commit: parsed, and as it is written there.
func (s *Service) fileAt(ctx context.Context, app, folder, sha string) (*config.File, storedFile, error) {
	name := "belay.yaml"
	if folder != "" {
		name = folder + "/belay.yaml"
	}
	text, err := s.ports.Source.File(ctx, app, sha, name)
	if err != nil {
		return nil, storedFile{}, err
	}
	file, err := parse(name, text, s.options.Demo)
	if err != nil {
		return nil, storedFile{}, err
	}
	if string(file.App) != app {
		return nil, storedFile{}, domain.Errorf(domain.Invalid, "%s at %s is the file of app %s, not of %s", name,
			domain.ShortCommit(sha), file.App, app)
	}
	return file, storedFile{Name: name, Text: string(text)}, nil
}

// admit refuses what can be known to fail before anything runs: a host that is taken, secrets that are missing, gates that
// nobody could open, a window in which the plan never fits. It returns the address of the app that is taken over, if any.
func (s *Service) admit(ctx context.Context, in Submission, f *config.File, c Commit, people []string) (external string, err error) {
	if err := s.taken(ctx, f); err != nil {
		return "", err
	}
	if err := s.admitSecrets(ctx, in.App, f); err != nil {
		return "", err
	}
	if external, err = s.admitFrom(ctx, f, in.From); err != nil {
		return "", err
	}
	if err := s.admitGates(ctx, f, c, people); err != nil {
		return "", err
	}
	return external, s.admitWindow(ctx, f, in.Urgent)
}

// submissionData tells what was handed over.
func submissionData(d domain.Delivery) map[string]any {
	data := map[string]any{"commit": d.Commit, "subject": d.Subject}
	if d.Urgent != "" {
		data["urgent"] = d.Urgent
	}
	if d.From != "" {
		data["from"] = d.From
	}
	return data
}
