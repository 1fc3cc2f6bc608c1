/** Modal's answer to a client that calls too often: google.rpc.Status with a modal.client.RPCRetryPolicy in its details. */

const lengthDelimited = 2;
const float32 = 5;

/** For the `grpc-status-details-bin` trailer. RPCRetryPolicy has the seconds as a float in field 1. */
export function retryPolicyDetails(retryAfterSecs: number): Buffer {
  const seconds = Buffer.alloc(4);
  seconds.writeFloatLE(retryAfterSecs);
  const policy = Buffer.concat([tag(1, float32), seconds]);
  const url = Buffer.from("type.googleapis.com/modal.client.RPCRetryPolicy");
  const any = Buffer.concat([bytes(1, url), bytes(2, policy)]);
  // google.rpc.Status: code (RESOURCE_EXHAUSTED) in field 1, details in field 3
  return Buffer.concat([tag(1, 0), Buffer.from([8]), bytes(3, any)]);
}

function tag(field: number, wireType: number): Buffer {
  return Buffer.from([(field << 3) | wireType]);
}

/** Shorter than 128 bytes, so that its length is one byte. */
function bytes(field: number, content: Buffer): Buffer {
  return Buffer.concat([tag(field, lengthDelimited), Buffer.from([content.length]), content]);
}
