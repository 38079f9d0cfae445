/*
 * PID 1 of the floor: the minimum that brings the same containerd and kubelet to the same pod.
 *
 * It corresponds to the fifty lines of shell that an engineer would write first: one step after the
 * other, nothing read ahead, nothing in parallel, no DHCP, no restart, no shutdown.
 * docs/benchmarks.md lists what it leaves out, and which of these omissions are to its advantage.
 *
 * It writes the same lines to the kernel log as Kiln's PID 1 (init/contract/src/console.rs), so that
 * the same code reads both boots.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHARE "/usr/share/floor"
#define NOTIFY "/run/notify"
#define CGROUP "/sys/fs/cgroup"

#define SUID_DEV (MS_NOSUID | MS_NODEV)
#define SAFE (SUID_DEV | MS_NOEXEC)

static int kmsg = -1;
static int notify = -1;
static long since;

/*
 * The console shows level 4 with the `loglevel` of both images. Without a newline the kernel would
 * hold the line back until the next one.
 */
static void say(const char *format, ...)
{
    char line[256] = "<4>kiln: ";
    size_t used = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    strcat(line, "\n");
    write(kmsg, line, strlen(line));
}

/* Gives up, because a floor that does not boot measures nothing. The kernel panics when PID 1 exits. */
static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    say("%s: %s", what, strerror(errno));
    exit(1);
}

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Ends a stage, which began when the previous one ended. */
static void stage(const char *name)
{
    say("stage %s took %ld ms", name, now() - since);
    since = now();
}

static void attach(const char *type, const char *target, unsigned long flags, const char *data)
{
    mkdir(target, 0755);
    must(mount(type, target, type, flags, data), target);
}

static void put(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        say("%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void load(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd, path);
    must(syscall(SYS_finit_module, fd, "", 0), path);
    close(fd);
}

/* Loads all modules that a node with a network needs, one after another. */
static void load_modules(void)
{
    char name[64], path[128];
    FILE *list = fopen("/modules/list", "re");
    must(list ? 0 : -1, "/modules/list");
    while (fscanf(list, "%63s", name) == 1) {
        snprintf(path, sizeof path, "/modules/%s.ko", name);
        load(path);
        unlink(path);
    }
    fclose(list);
}

/* Mounts erofs straight from the file in the ramfs, and moves it over `/`. */
static void enter_root(void)
{
    must(mkdir("/new", 0755), "/new");
    must(mount("/root.erofs", "/new", "erofs", MS_RDONLY, NULL), "/root.erofs");
    must(mount("/dev", "/new/dev", NULL, MS_MOVE, NULL), "move /dev");
    must(mount("/proc", "/new/proc", NULL, MS_MOVE, NULL), "move /proc");
    must(mount("/sys", "/new/sys", NULL, MS_MOVE, NULL), "move /sys");
    unlink("/root.erofs");
    unlink("/init");
    must(chdir("/new"), "/new");
    must(mount(".", "/", NULL, MS_MOVE, NULL), "move /");
    must(chroot("."), "chroot");
}

static void mount_tree(void)
{
    attach("cgroup2", CGROUP, SAFE, "nsdelegate,memory_recursiveprot");
    attach("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,gid=5,mode=620,ptmxmode=666");
    attach("tmpfs", "/dev/shm", SUID_DEV, "mode=1777,size=25%");
    attach("mqueue", "/dev/mqueue", SAFE, NULL);
    attach("bpf", "/sys/fs/bpf", SAFE, "mode=0700");
    attach("securityfs", "/sys/kernel/security", SAFE, NULL);
    attach("tmpfs", "/run", SUID_DEV, "mode=0755,size=25%");
    attach("tmpfs", "/tmp", SUID_DEV, "mode=1777,size=25%");
    attach("tmpfs", "/var", SUID_DEV, "mode=0755,size=50%");
    attach("tmpfs", "/opt", SUID_DEV, "mode=0755,size=25%");
    mkdir("/var/lib", 0755);
    mkdir("/var/log", 0755);
    symlink("/run", "/var/run");
    must(mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL), "share /");
}

static void make_cgroups(void)
{
    static const char controllers[] = "+cpuset +cpu +io +memory +hugetlb +pids";
    mkdir(CGROUP "/init", 0755);
    mkdir(CGROUP "/host", 0755);
    put(CGROUP "/init/cgroup.procs", "1");
    put(CGROUP "/cgroup.subtree_control", controllers);
    put(CGROUP "/host/cgroup.subtree_control", controllers);
    mkdir(CGROUP "/host/containerd", 0755);
    mkdir(CGROUP "/host/kubelet", 0755);
}

/* Sets the parameters that kubelet's `protectKernelDefaults` checks and that packets of pods need. */
static void set_sysctls(void)
{
    put("/proc/sys/vm/overcommit_memory", "1");
    put("/proc/sys/vm/panic_on_oom", "0");
    put("/proc/sys/kernel/panic", "10");
    put("/proc/sys/kernel/panic_on_oops", "1");
    put("/proc/sys/kernel/keys/root_maxkeys", "1000000");
    put("/proc/sys/kernel/keys/root_maxbytes", "25000000");
    put("/proc/sys/net/ipv4/ip_forward", "1");
    put("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");
    put("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1");
}

static struct sockaddr address(const char *text)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr any;
    inet_pton(AF_INET, text, &in.sin_addr);
    memcpy(&any, &in, sizeof any);
    return any;
}

static void link_up(int fd, const char *name, const char *ip, const char *mask)
{
    struct ifreq link = { 0 };
    strncpy(link.ifr_name, name, IFNAMSIZ - 1);
    link.ifr_addr = address(ip);
    must(ioctl(fd, SIOCSIFADDR, &link), name);
    link.ifr_netmask = address(mask);
    must(ioctl(fd, SIOCSIFNETMASK, &link), name);
    link.ifr_flags = IFF_UP | IFF_RUNNING;
    must(ioctl(fd, SIOCSIFFLAGS, &link), name);
}

/* Configures QEMU's user network, whose addresses are always the same. */
static void set_network(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(fd, "socket");
    link_up(fd, "lo", "127.0.0.1", "255.0.0.0");
    link_up(fd, "eth0", "10.0.2.15", "255.255.255.0");
    struct rtentry route = {
        .rt_dst = address("0.0.0.0"),
        .rt_genmask = address("0.0.0.0"),
        .rt_gateway = address("10.0.2.2"),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };
    must(ioctl(fd, SIOCADDRT, &route), "default route");
    close(fd);
    must(sethostname("floor", 5), "host name");
}

/* Opens the socket of sd_notify(3), on which both services report `READY=1`. */
static void listen_notify(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = NOTIFY };
    notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(notify, "notify socket");
    must(bind(notify, (struct sockaddr *)&name, sizeof name), NOTIFY);
}

static void join(const char *group)
{
    char path[128], text[16];
    snprintf(path, sizeof path, CGROUP "%s/cgroup.procs", group);
    snprintf(text, sizeof text, "%d", getpid());
    put(path, text);
}

/* Output goes to a file in memory, as on a node; `FLOOR_LOG=1` on the command line shows it. */
static void redirect(const char *service)
{
    char path[128];
    snprintf(path, sizeof path, "/var/log/%s.log", service);
    int fd = getenv("FLOOR_LOG") ? open("/dev/console", O_WRONLY) : open(path, O_WRONLY | O_CREAT, 0640);
    dup2(fd, 1);
    dup2(fd, 2);
}

static pid_t start(const char *group, char *const argv[])
{
    pid_t child = fork();
    must(child, "fork");
    if (child)
        return child;
    static char *const env[] = { "PATH=/usr/bin", "HOME=/root", "NOTIFY_SOCKET=" NOTIFY, NULL };
    static const struct rlimit files = { 1048576, 1048576 };
    setsid();
    join(group);
    setrlimit(RLIMIT_NOFILE, &files);
    put("/proc/self/oom_score_adj", "-999");
    redirect(strrchr(argv[0], '/') + 1);
    execve(argv[0], argv, env);
    say("%s: %s", argv[0], strerror(errno));
    _exit(127);
}

static void await_ready(const char *service)
{
    char text[4096];
    for (;;) {
        ssize_t length = recv(notify, text, sizeof text - 1, 0);
        text[length < 0 ? 0 : length] = 0;
        if (strstr(text, "READY=1"))
            break;
    }
    say("%s is ready", service);
}

static void start_containerd(void)
{
    say("containerd started, attempt 1");
    start("/host/containerd", (char *[]) { "/usr/bin/containerd", "--config", SHARE "/containerd.toml", NULL });
    await_ready("containerd");
}

/* A fresh `/var` has no images, so every boot imports all of them. */
static void import_images(void)
{
    int status = 0;
    since = now();
    pid_t ctr = start("/host/containerd",
        (char *[]) { "/usr/bin/ctr", "--namespace", "k8s.io", "images", "import", SHARE "/images.tar", NULL });
    must(waitpid(ctr, &status, 0), "ctr");
    if (status) {
        errno = ECHILD;
        must(-1, "ctr images import");
    }
    stage("images");
}

static void start_kubelet(void)
{
    say("kubelet started, attempt 1");
    start("/host/kubelet", (char *[]) { "/usr/bin/kubelet", "--config", SHARE "/kubelet.yaml", NULL });
    await_ready("kubelet");
}

int main(void)
{
    since = now();
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    attach("proc", "/proc", SAFE, NULL);
    attach("sysfs", "/sys", SAFE, NULL);
    stage("mounts");
    load_modules();
    stage("modules");
    enter_root();
    mount_tree();
    stage("root");
    make_cgroups();
    set_sysctls();
    stage("config");
    set_network();
    listen_notify();
    stage("network");
    start_containerd();
    import_images();
    start_kubelet();
    /* The host reads the memory in use through this module. It is loaded late, to cost the boot nothing. */
    load(SHARE "/virtio_balloon.ko");
    for (;;)
        if (wait(NULL) < 0)
            pause();
}
