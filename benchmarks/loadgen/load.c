/* A load client for OpenAI-shaped servers: keep-alive connections, one request at a time on each, closed loop.
 *
 *   load UDS|- PORT CONNECTIONS SECONDS TOKENS|0 KEY MODEL
 *
 * TOKENS > 0 streams that many tokens a request; 0 asks for documents. Counts events, answers and errors in the
 * window after a warm-up of a fifth of SECONDS, and prints one JSON object. Events of `mock` carry its clock, from
 * which the latency of each event is told.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BUF 262144
#define BUCKETS 200000 /* of 5 us: a second */

typedef struct {
  int fd, used, first;
  uint64_t sent;
  char buf[BUF];
} conn;

static uint32_t chunk_us[BUCKETS], first_us[BUCKETS], whole_us[BUCKETS];
static uint64_t events, answers, errors, bytes_in, usages;
static char request[4096];
static int request_len, tokens, ep, measuring, port;
static const char *uds;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void note(uint32_t *histogram, uint64_t ns) {
  uint64_t at = ns / 5000;
  if (measuring) histogram[at < BUCKETS ? at : BUCKETS - 1]++;
}

static double quantile(uint32_t *histogram, double q) {
  uint64_t total = 0, seen = 0;
  for (int i = 0; i < BUCKETS; i++) total += histogram[i];
  for (int i = 0; i < BUCKETS; i++)
    if ((seen += histogram[i]) > total * q) return i * 5 + 2.5;
  return 0;
}

static void ask(conn *c) {
  c->used = 0, c->first = 1, c->sent = now_ns();
  if (send(c->fd, request, request_len, MSG_NOSIGNAL) != request_len) errors++;
}

static void open_one(conn *c) {
  struct sockaddr_un u = {.sun_family = AF_UNIX};
  struct sockaddr_in t = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
  int local = strcmp(uds, "-"), one = 1;
  if (local) strncpy(u.sun_path, uds, sizeof u.sun_path - 1);
  c->fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, local ? (void *)&u : (void *)&t, local ? sizeof u : sizeof t)) perror("load: connect"), exit(1);
  if (!local) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
  ask(c);
}

static void reopen(conn *c) {
  close(c->fd);
  open_one(c);
}

/* Counts the whole events in buf and keeps the rest; true at the answer's end. */
static int scan_stream(conn *c, uint64_t now) {
  char *at = c->buf, *end = c->buf + c->used, *sep;
  if (c->first && c->used > 12 && memcmp(c->buf + 9, "200", 3)) return -1;
  while ((sep = memmem(at, end - at, "\n\n", 2))) {
    char *content = memmem(at, sep - at, "\"content\":\"", 11);
    if (content) {
      uint64_t then = strtoull(content + 11, NULL, 10);
      if (then && then < now) note(chunk_us, now - then);
      if (c->first) note(first_us, now - c->sent), c->first = 0;
      if (measuring) events++;
    } else if (memmem(at, sep - at, "\"usage\":{", 9) && measuring) usages++;
    at = sep + 2;
  }
  int done = end - at >= 7 && !memcmp(end - 5, "0\r\n\r\n", 5);
  c->used = end - at;
  memmove(c->buf, at, c->used);
  return done;
}

static int scan_document(conn *c) {
  char *head = memmem(c->buf, c->used, "\r\n\r\n", 4);
  if (!head) return 0;
  if (memcmp(c->buf + 9, "200", 3)) return -1;
  c->buf[c->used] = 0;
  char *length = strcasestr(c->buf, "content-length:");
  if (length && length < head) return c->used >= head + 4 - c->buf + atoi(length + 15);
  return c->used >= 5 && !memcmp(c->buf + c->used - 5, "0\r\n\r\n", 5);
}

static void readable(conn *c) {
  ssize_t n = recv(c->fd, c->buf + c->used, BUF - 1 - c->used, MSG_DONTWAIT);
  if (n <= 0) {
    if (n < 0 && errno == EAGAIN) return;
    errors++;
    reopen(c);
    return;
  }
  uint64_t now = now_ns();
  c->used += n;
  if (measuring) bytes_in += n;
  int done = tokens ? scan_stream(c, now) : scan_document(c);
  if (done < 0) {
    if (!errors++) fprintf(stderr, "load: %.*s\n", c->used < 400 ? c->used : 400, c->buf);
    usleep(1000);
    reopen(c);
  } else if (done) {
    note(whole_us, now - c->sent);
    if (measuring) answers++;
    ask(c);
  }
}

int main(int argc, char **argv) {
  if (argc != 8) return fprintf(stderr, "usage: load UDS|- PORT CONNECTIONS SECONDS TOKENS KEY MODEL\n"), 2;
  uds = argv[1], port = atoi(argv[2]), tokens = atoi(argv[5]);
  int connections = atoi(argv[3]);
  double seconds = atof(argv[4]);
  char body[1024];
  int length = sprintf(body,
                       "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of "
                       "France?\"}],\"max_tokens\":%d%s}",
                       argv[7], tokens ? tokens : 64, tokens ? ",\"stream\":true" : "");
  request_len = sprintf(request,
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %s\r\n"
                        "content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                        argv[6], length, body);
  signal(SIGPIPE, SIG_IGN);
  ep = epoll_create1(0);
  conn *conns = calloc(connections, sizeof(conn));
  for (int i = 0; i < connections; i++) open_one(&conns[i]);
  uint64_t start = now_ns(), from = start + seconds * 0.2e9, until = start + seconds * 1e9, now = start;
  fprintf(stderr, "warm\n");
  struct epoll_event list[512];
  while (now < until) {
    int n = epoll_wait(ep, list, 512, 20);
    for (int i = 0; i < n; i++) readable(list[i].data.ptr);
    now = now_ns();
    if (!measuring && now >= from) measuring = 1, fprintf(stderr, "begin\n");
  }
  fprintf(stderr, "end\n");
  double window = (until - from) / 1e9;
  printf("{\"seconds\": %.3f, \"events\": %llu, \"answers\": %llu, \"errors\": %llu, \"usage_events\": %llu, "
         "\"bytes\": %llu, \"chunk_p50_us\": %.1f, \"chunk_p99_us\": %.1f, \"first_p50_us\": %.1f, \"first_p99_us\": "
         "%.1f, \"whole_p50_us\": %.1f, \"whole_p99_us\": %.1f}\n",
         window, (unsigned long long)events, (unsigned long long)answers, (unsigned long long)errors,
         (unsigned long long)usages, (unsigned long long)bytes_in, quantile(chunk_us, 0.5), quantile(chunk_us, 0.99),
         quantile(first_us, 0.5), quantile(first_us, 0.99), quantile(whole_us, 0.5), quantile(whole_us, 0.99));
  return 0;
}
