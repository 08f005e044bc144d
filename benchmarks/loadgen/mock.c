/* A mock of vLLM's server, fast enough that it is never what a benchmark measures.
 *
 *   mock UDS|- PORT|0 INTERVAL_US
 *
 * Listens on a unix socket and/or a TCP port, one thread, epoll. A streaming POST gets `max_tokens` events of about
 * 250 bytes, one write each, INTERVAL_US apart (0: as fast as the socket takes them); the content of each is the
 * monotonic clock in ns, so that a client on the same machine can tell the latency. Anything else gets a document.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

#define MAX_FD 65536
#define IN_BYTES 16384
#define OUT_BYTES 1024

typedef struct {
  char in[IN_BYTES];
  int used, left, usage, tcp, blocked;
  uint64_t due;
  char out[OUT_BYTES];
  int out_len, out_at;
} conn;

static conn *conns[MAX_FD];
static int active[MAX_FD], n_active, place[MAX_FD];
static int ep;
static uint64_t interval;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void activate(int fd) {
  if (place[fd] < 0) place[fd] = n_active, active[n_active++] = fd;
}

static void deactivate(int fd) {
  int at = place[fd];
  if (at < 0) return;
  active[at] = active[--n_active], place[active[at]] = at, place[fd] = -1;
}

static void drop(int fd) {
  deactivate(fd);
  free(conns[fd]), conns[fd] = NULL;
  close(fd);
}

/* 0: all written, 1: the socket is full, -1: gone */
static int flush(int fd, conn *c) {
  while (c->out_at < c->out_len) {
    ssize_t n = send(fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN) return drop(fd), -1;
      struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
      if (!c->blocked) epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e), c->blocked = 1;
      return 1;
    }
    c->out_at += n;
  }
  c->out_at = c->out_len = 0;
  return 0;
}

static int chunk(char *to, const char *payload) {
  return sprintf(to, "%zx\r\n%s\r\n", strlen(payload), payload);
}

#define HEAD                                                                                                         \
  "{\"id\":\"chatcmpl-957a6fa411234fd7\",\"object\":\"chat.completion.chunk\",\"created\":1795395405,\"model\":\"" \
  "ep_bench\",\"choices\":["

static void next_event(conn *c) {
  char payload[512];
  if (c->left > 0) {
    c->left--;
    sprintf(payload,
            "data: " HEAD "{\"index\":0,\"delta\":{\"content\":\"%020llu\"},\"logprobs\":null,\"finish_reason\":%s,"
            "\"token_ids\":null}]}\n\n",
            (unsigned long long)now_ns(), c->left ? "null" : "\"length\",\"stop_reason\":null");
    c->out_len = chunk(c->out, payload);
  } else {
    int at = 0;
    if (c->usage)
      at = chunk(c->out, "data: " HEAD "],\"usage\":{\"prompt_tokens\":11,\"total_tokens\":75,\"completion_tokens\":"
                         "64}}\n\n");
    at += chunk(c->out + at, "data: [DONE]\n\n");
    c->out_len = at + sprintf(c->out + at, "0\r\n\r\n");
    c->left = -1;
  }
}

static void pump(int fd, conn *c, uint64_t now) {
  while (c->left >= 0 && c->due <= now && !c->blocked) {
    next_event(c);
    c->due += interval;
    if (flush(fd, c)) return;
    if (c->left < 0) { deactivate(fd); return; }
  }
}

static void answer(int fd, conn *c, const char *request, const char *body) {
  if (strncmp(request, "POST", 4) == 0 && strstr(body, "\"stream\":true")) {
    const char *tokens = strstr(body, "\"max_tokens\":");
    c->left = tokens ? atoi(tokens + 13) : 64;
    c->usage = strstr(body, "include_usage") != NULL;
    c->due = now_ns() + (interval ? (uint64_t)rand() % interval : 0);
    c->out_len = sprintf(c->out, "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; "
                                 "charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
    if (flush(fd, c) >= 0) activate(fd);
    return;
  }
  const char *document =
      "{\"id\":\"chatcmpl-957a6fa411234fd7\",\"object\":\"chat.completion\",\"created\":1795395405,\"model\":\"ep_"
      "bench\",\"data\":[],\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The capital of "
      "France is Paris.\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],"
      "\"usage\":{\"prompt_tokens\":11,\"total_tokens\":18,\"completion_tokens\":7}}";
  c->out_len = sprintf(c->out, "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-"
                               "length: %zu\r\n\r\n%s", strlen(document), document);
  flush(fd, c);
}

static void readable(int fd, conn *c) {
  ssize_t n = recv(fd, c->in + c->used, IN_BYTES - 1 - c->used, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN) drop(fd);
    return;
  }
  c->used += n, c->in[c->used] = 0;
  char *end = strstr(c->in, "\r\n\r\n");
  if (!end) return;
  char *length = strcasestr(c->in, "content-length:");
  char *chunked = strcasestr(c->in, "transfer-encoding: chunked");
  int need = (int)(end + 4 - c->in) + (length && length < end ? atoi(length + 15) : 0);
  if (chunked && chunked < end ? !strstr(end, "\r\n0\r\n\r\n") : c->used < need) return;
  c->used = 0;
  answer(fd, c, c->in, end + 4);
}

static int listener(struct sockaddr *address, socklen_t size) {
  int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, address, size) || listen(fd, 4096)) perror("mock: listen"), exit(1);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  return fd;
}

static void take(int listening, int tcp) {
  int fd, one = 1;
  while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MAX_FD) { close(fd); continue; }
    conns[fd] = calloc(1, sizeof(conn)), conns[fd]->left = -1, place[fd] = -1;
    if (tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: mock UDS|- PORT|0 INTERVAL_US\n"), 2;
  interval = strtoull(argv[3], NULL, 10) * 1000;
  signal(SIGPIPE, SIG_IGN);
  ep = epoll_create1(0);
  int uds = -1, tcp = -1;
  if (strcmp(argv[1], "-")) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strncpy(a.sun_path, argv[1], sizeof a.sun_path - 1);
    unlink(argv[1]);
    uds = listener((struct sockaddr *)&a, sizeof a);
  }
  if (atoi(argv[2])) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])), .sin_addr.s_addr = htonl(0x7f000001)};
    tcp = listener((struct sockaddr *)&a, sizeof a);
  }
  struct epoll_event events[512];
  for (;;) {
    int wait = !n_active ? 1000 : interval ? 1 : 0;
    int n = epoll_wait(ep, events, 512, wait);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == uds || fd == tcp) { take(fd, fd == tcp); continue; }
      conn *c = conns[fd];
      if (!c) continue;
      if (events[i].events & EPOLLOUT) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e), c->blocked = 0;
        int full = flush(fd, c);
        if (full < 0) continue;
        if (!full && c->left < 0) deactivate(fd);
      }
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(fd, c);
    }
    uint64_t now = now_ns();
    for (int i = n_active - 1; i >= 0; i--) {
      int fd = active[i];
      if (conns[fd]) pump(fd, conns[fd], now);
      if (i > n_active) i = n_active;
    }
  }
}
