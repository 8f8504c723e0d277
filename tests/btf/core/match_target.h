// The other side of match_local.h; which types match is libbpf's to say.
struct far { int x; }; union near; struct alike { long z; union near *q; int a; struct far *p; };
struct more { int a; int b; }; struct fewer { int a; }; struct wider { int a; }; struct sign { int a; };
struct named { int a; }; struct points { struct alike *a; int **b; }; struct points_off { union near *a; };
struct holds { struct { int a; } a; }; struct arrays { int a[4]; }; struct arrays_off { int a[5]; };
struct calls { int (*f)(int, struct far *); }; struct calls_off { int (*f)(int); }; struct returns { int (*f)(int); };
struct flavour { int a; }; enum less { L0, L1 }; enum most { M0 }; enum renamed { R1 }; struct enums { enum less e; };
struct declared { int d; }; struct declares { struct declared *d; }; struct floats { float f; };
union choice { long b; int a; }; typedef struct alike alike_t; typedef long number_t;
struct inside { struct { int a; int b; }; };
