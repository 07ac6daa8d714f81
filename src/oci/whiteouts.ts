/** How a layer says that something is gone. */

/** An entry of this name and NAME removes NAME of the layers below. */
export const WHITEOUT_PREFIX = '.wh.';
/** An entry of this name removes everything that the layers below have in its directory. */
export const OPAQUE_MARKER = '.wh..wh..opq';
