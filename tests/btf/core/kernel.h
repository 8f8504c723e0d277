// Types of the running kernel, as a program may declare them.
struct pid_namespace; typedef int pid_t; typedef struct { int counter; } atomic_t;
struct list_head { struct list_head *next; };
struct task_struct { int pid; pid_t tgid; char comm[16]; struct task_struct *real_parent; struct mm_struct *mm;
                     unsigned sched_reset_on_fork : 1; unsigned in_execve : 1; struct list_head tasks;
                     int no_such_field; };
struct mm_struct___here { atomic_t mm_users; };
struct file { struct { struct qstr_none *x; } f_path; long f_pos; };
enum bpf_map_type { BPF_MAP_TYPE_RINGBUF = 5, BPF_MAP_TYPE_NONE_SUCH = 4 };
