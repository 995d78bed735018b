"""Replace isal.igzip and isal.igzip_lib in kernels whose image lacks them."""

import gzip
import zlib

IGzipFile = gzip.GzipFile
IsalError = zlib.error
