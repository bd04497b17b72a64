package notify

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// mailbox is a real SMTP server of a few commands. It answers AUTH and MAIL as it is told.
func mailbox(t *testing.T, auth string) (addr string, mails func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var list []string
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				mail := smtpDialog(c, auth)
				mu.Lock()
				defer mu.Unlock()
				list = append(list, mail)
			}()
		}
	}()
	return l.Addr().String(), func() []string { mu.Lock(); defer mu.Unlock(); return list }
}

func smtpDialog(c net.Conn, auth string) (mail string) {
	in := bufio.NewReader(c)
	answer := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	answer("220 sink")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return mail
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			answer("250-sink\r\n250 AUTH PLAIN")
		case "AUTH":
			answer(auth)
		case "DATA":
			answer("354 go on")
			for {
				text, err := in.ReadString('\n')
				if err != nil || text == ".\r\n" {
					break
				}
				mail += text
			}
			answer("250 taken")
		case "QUIT":
			answer("221 bye")
			return mail
		default:
			answer("250 fine")
		}
	}
}

func TestMail(t *testing.T) {
	addr, mails := mailbox(t, "235 welcome")
	r := &Receivers{}
	url := "smtp://belay:" + token + "@" + addr + "/?from=belay@shop.example&to=ops@shop.example,ana@shop.example&auth=Plain&usestarttls=no"
	answer, err := r.Send(t.Context(), domain.NewSecret(url), message)
	shown(t, answer, err)
	if err != nil || answer != "smtp took it" {
		t.Fatalf("%q, %v", answer, err)
	}
	for end := time.Now().Add(5 * time.Second); len(mails()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if got := strings.Join(mails(), ""); !strings.Contains(got, "Subject: shop #142\r\n") || !strings.Contains(got, "rolled back after 12s: errors 9 %") ||
		!strings.Contains(got, message.URL) || strings.Contains(got, token) {
		t.Errorf("%s", got)
	}
	bad, _ := mailbox(t, "535 no "+token+" "+base64.StdEncoding.EncodeToString([]byte("\x00belay\x00"+token)))
	answer, err = r.Send(t.Context(), domain.NewSecret(strings.Replace(url, addr, bad, 1)), message)
	shown(t, answer, err)
	if err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("\x00belay\x00"+token))) {
		t.Errorf("%v", err)
	}
}

// A mail server that takes the connection and says nothing costs the time of one attempt, and gets no second one beside it.
func TestAMailServerThatSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var r Receivers
	url := domain.NewSecret("smtp://" + l.Addr().String() + "/?from=a@b.example&to=c@d.example")
	send := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := r.Send(ctx, url, message)
		return err
	}
	if err := send(); err == nil || err.Error() != "no answer within 10s" {
		t.Errorf("%v", err)
	}
	if err := send(); err == nil || err.Error() != "the attempt before has not come back yet" {
		t.Errorf("%v", err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.chat.mu.Lock()
		open := len(r.chat.open)
		r.chat.mu.Unlock()
		if open == 0 {
			return
		}
	}
	t.Error("the attempt never came back")
}

// Receivers of the services, as far as their addresses can be set: what arrives is one sentence and a link.
func TestServices(t *testing.T) {
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.URL.Path + " " + r.Header.Get("Title") + " " + string(b)
		if strings.Contains(r.URL.String()+r.Header.Get("Authorization"), "refuse") {
			http.Error(w, `{"error":"no such thing as `+r.URL.String()+`","message":"`+token+`"}`, http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"id":1,"appid":1,"message":"x","title":"y","priority":1,"date":"2026-11-23T14:00:00Z"}`)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	gotify := "A" + token[:14-len("ok")] + "ok"
	for _, c := range []struct{ url, title string }{
		{"ntfy://" + host + "/" + token + "?scheme=http", "shop #142"},
		{"gotify://" + host + "/" + gotify + "?disabletls=yes", "shop #142"},
		{"generic://" + host + "/hook/" + token + "?disabletls=yes", "shop #142"},
		{"mattermost://" + host + "/" + token + "?disabletls=yes", "shop #142"},
	} {
		got = ""
		answer, err := (&Receivers{}).Send(t.Context(), domain.NewSecret(c.url), message)
		shown(t, answer, err)
		if err != nil || !strings.Contains(got, "rolled back after 12s: errors 9 %") || !strings.Contains(got, message.URL) || !strings.Contains(got, c.title) {
			t.Errorf("%s: %v, got %s", c.url, err, got)
		}
	}
	for _, url := range []string{
		"ntfy://" + host + "/" + token + "refuse?scheme=http", "generic://" + host + "/refuse/" + token + "?disabletls=yes",
		"gotify://" + host + "/" + token + "?disabletls=yes", "gotify://" + host + "/A" + token + token + "?disabletls=yes",
		"ntfy://127.0.0.1:1/" + token + "?scheme=http",
	} {
		answer, err := (&Receivers{}).Send(t.Context(), domain.NewSecret(url), message)
		shown(t, answer, err)
		if err == nil {
			t.Errorf("%s: it was taken", url)
		}
	}
}

// A URL that is none of its kind is refused before anything is sent, and without being told.
func TestCheck(t *testing.T) {
	for _, url := range []string{
		"slack://" + token, "telegram://" + token + "@telegram", "teams://" + token, "discord://" + token, "pushover://" + token, "ftp://" + token,
		"smtp://" + token, "http://hooks.example/" + token, token,
	} {
		err := Check(domain.NewSecret(url))
		shown(t, "", err)
		if domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{
		"https://hooks.example/" + token, "slack://hook:TAAAAAAAA-BBBBBBBBBB-123456789123456789123456@webhook", "smtp://h.example/?from=a@b&to=c@d",
		"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawA@telegram?chats=@x", "ntfy://ntfy.sh/" + token, "discord://" + token + "@123",
	} {
		if err := Check(domain.NewSecret(url)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// What libraries make of a URL does not get through, however they cut it up.
func TestMasked(t *testing.T) {
	for url, texts := range map[string][]string{
		"slack://hook:TAAAAAAAA-BBBBBBBBBB-123456789123456789123456@webhook": {
			"post https://hooks.slack.com/services/TAAAAAAAA/BBBBBBBBBB/123456789123456789123456: no", "token TAAAAAAAA/BBBBBBBBBB", "bot123456789123456789123456x",
		},
		"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@secretroom": {
			`Post "https://api.telegram.org/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage": x`, "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "room secretroom",
		},
		"smtp://user%40corp:p%40ss%2Fword9@mail.example.com:587/?from=a@b":                   {"535 user@corp p@ss/word9", "user corp", "word9"},
		"pushover://shoutrrr:azGDORePK8gMaC0QOYAMyEEuzJnyUi@uQiRzpo4DXghDmr9QzzfQu27cmVRsG/": {"user uQiRzpo4DXghDmr9QzzfQu27cmVRsG", "azGDORePK8gMaC0QOYAMyEEuzJnyUi"},
	} {
		for _, text := range texts {
			got := masked(text, domain.NewSecret(url))
			for _, bad := range []string{"AAAA", "BBBB", "12345678", "11020", "AAHd", "secretroom", "corp", "word9", "azGD", "uQiR"} {
				if strings.Contains(got, bad) {
					t.Errorf("%q shows %s", got, bad)
				}
			}
		}
	}
	if got := masked("not reached: dial tcp mail.example.com:587: refused", domain.NewSecret("smtp://u:passw0rd@mail.example.com:587/?from=a@b")); !strings.Contains(got, "mail.example.com:587: refused") {
		t.Errorf("the host is gone: %s", got)
	}
	wrapped := maskedError(fmt.Errorf("x: %w", errors.New("at https://h/"+token)), domain.NewSecret("https://h/"+token))
	if wrapped.Error() != "x: at [url]" || errors.Unwrap(wrapped) != nil {
		t.Errorf("%v", wrapped)
	}
}
