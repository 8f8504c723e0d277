// What the programs are compiled with; match_target.h has the same names in another kernel.
struct far; union near; struct alike { int a; struct far *p; union near *q; }; struct more { int a; };
struct fewer { int a; int b; }; struct wider { long a; }; struct sign { unsigned a; }; struct named { int b; };
struct points { struct alike *a; int **b; }; struct points_off { struct alike *a; }; struct holds { struct alike a; };
struct arrays { int a[4]; }; struct arrays_off { int a[4]; }; struct calls { int (*f)(int, struct far *); };
struct calls_off { int (*f)(int, int); }; struct returns { long (*f)(int); }; struct flavour___x { int a; };
enum less { L0 }; enum most { M0, M1 }; enum renamed { R0 }; struct enums { enum less e; }; struct absent { int a; };
struct declared; struct declares { struct declared *d; }; struct floats { float f; }; union choice { int a; };
typedef struct alike alike_t; typedef int number_t; struct inside { struct { int a; }; };
