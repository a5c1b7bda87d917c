// The functions of the netCDF C library that the programs call. So the programs can be
// built with only its shared library, such as the one in the netCDF4 wheel, and without
// netcdf.h. A test compiles this together with netcdf.h, where that exists.
#pragma once

#include <stddef.h>

extern "C" {
#ifndef NETCDF_MEM_H
typedef struct NC_memio {
  size_t size;
  void* memory;
  int flags;
} NC_memio;
#endif
int nc_open(const char* path, int mode, int* file);
int nc_create_mem(const char* path, int mode, size_t size, int* file);
int nc_close_memio(int file, NC_memio* memory);
int nc_close(int file);
int nc_enddef(int file);
int nc_def_dim(int file, const char* name, size_t size, int* dim);
int nc_def_var(int file, const char* name, int type, int n_dims, const int* dims,
               int* variable);
int nc_put_att_text(int file, int variable, const char* name, size_t size,
                    const char* text);
int nc_put_var_double(int file, int variable, const double* values);
int nc_inq_varid(int file, const char* name, int* variable);
int nc_inq_vartype(int file, int variable, int* type);
int nc_inq_varndims(int file, int variable, int* n_dims);
int nc_inq_vardimid(int file, int variable, int* dims);
int nc_inq_dimlen(int file, int dim, size_t* size);
int nc_inq_attlen(int file, int variable, const char* name, size_t* size);
int nc_get_att_text(int file, int variable, const char* name, char* text);
int nc_get_att_double(int file, int variable, const char* name, double* values);
int nc_get_var_double(int file, int variable, double* values);
const char* nc_strerror(int status);
}
