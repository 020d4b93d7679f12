/* TCP and UDP over loopback, Unix sockets, descriptors sent to a child. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static struct sockaddr_in address;

static int listening(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof address;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    NEED(bind(fd, (void *)&address, size) == 0 && listen(fd, 5) == 0);
    NEED(getsockname(fd, (void *)&address, &size) == 0);
    return fd;
}

static void echo_once(int server)
{
    char text[200];
    int peer = accept4(server, NULL, NULL, 0);
    ssize_t size;
    while ((size = recv(peer, text, sizeof text, 0)) > 0)
        for (ssize_t sent = 0; sent < size;)
            sent += send(peer, text + sent, size - sent, MSG_NOSIGNAL);
    close(peer);
}

static void tcp(void)
{
    int server = listening(), status;
    char text[200] = "";
    pid_t child = fork();
    if (child == 0) {
        echo_once(server);
        _exit(0);
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    SHOW(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes));
    SHOW(connect(fd, (void *)&address, sizeof address));
    SHOW(send(fd, "over the loopback", 17, 0));
    SHOW(recv(fd, text, 17, MSG_WAITALL));
    printf("%s\n", text);
    SHOW(shutdown(fd, SHUT_WR));
    SHOW(recv(fd, text, 17, 0));
    waitpid(child, &status, 0);
    SHOW(status);
    close(server);
    int refused = socket(AF_INET, SOCK_STREAM, 0);
    TRY(connect(refused, (void *)&address, sizeof address));
}

static void udp(void)
{
    int one = socket(AF_INET, SOCK_DGRAM, 0), two = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof to;
    NEED(bind(one, (void *)&to, size) == 0 && getsockname(one, (void *)&to, &size) == 0);
    struct mmsghdr messages[2] = {{.msg_hdr.msg_iovlen = 1}, {.msg_hdr.msg_iovlen = 1}};
    struct iovec parts[] = {{"first", 5}, {"second", 6}};
    for (int i = 0; i < 2; i++) {
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_name = &to;
        messages[i].msg_hdr.msg_namelen = size;
    }
    SHOW(sendmmsg(two, messages, 2, 0));
    char text[20] = "";
    SHOW(recvfrom(one, text, sizeof text, 0, NULL, NULL));
    printf("%s\n", text);
    struct pollfd waiting = {one, POLLIN, 0};
    SHOW(poll(&waiting, 1, 1000) * 10 + waiting.revents);
}

static void descriptors(void)
{
    int pair[2], status;
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t child = fork();
    if (child == 0) {
        NEED(recvmsg(pair[1], &message, 0) == 1);
        int fd;
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        _exit(write(fd, "by the child", 12));
    }
    int fd = open("passed", O_RDWR | O_CREAT, 0600);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    SHOW(sendmsg(pair[0], &message, 0));
    waitpid(child, &status, 0);
    SHOW(WEXITSTATUS(status));
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "named"};
    int server = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    SHOW(bind(server, (void *)&name, sizeof name) | listen(server, 1));
    struct ucred who;
    socklen_t size = sizeof who;
    SHOW(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.pid == getpid());
}

static void *reply(void *server)
{
    echo_once((int)(long)server);
    return NULL;
}

static void in_threads(void)
{
    pthread_t thread;
    char text[8] = "";
    int server = listening(), fd = socket(AF_INET, SOCK_STREAM, 0);
    pthread_create(&thread, NULL, reply, (void *)(long)server);
    NEED(connect(fd, (void *)&address, sizeof address) == 0);
    SHOW(write(fd, "thread", 6));
    SHOW(recv(fd, text, 6, MSG_WAITALL));
    close(fd);
    pthread_join(thread, NULL);
    printf("%s\n", text);
}

int main(void)
{
    tcp();
    udp();
    descriptors();
    in_threads();
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found;
    SHOW(getaddrinfo("127.0.0.1", "80", &hints, &found));
    SHOW(ntohs(((struct sockaddr_in *)found->ai_addr)->sin_port));
    return 0;
}
